"""Values as a JSON document beside a file of tensors; no pickle, nothing executed on reading.

A value is made of None, numbers, strings, tensors, lists, tuples, dicts with string keys, and
dataclasses and named tuples of these. A document may name two kinds of types: the types in `TYPES`,
by a tag that outlives their place in the code, which hold only data and are checked when they are
read; and types that the reader passes, by module and name. Nothing else is looked up, and no module
is imported for a name outside the table. Fields that this version does not know, as a later version
may have written, are skipped.

The document names its tensors by a hash. The tensors of a new value are written beside the old
tensors, which the old document still names, until the new document is in its place: an interrupted
save leaves the old value or the new one, and files of two values are never read together.
"""

import dataclasses
import hashlib
import importlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import filelock
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from llmsmc.errors import InputError, LlmsmcError
from llmsmc.storage.strict_files import (
    FORMAT,
    MAX_DEPTH,
    check_format,
    depth,
    loads,
    read_bytes,
    unwritable,
    write_bytes,
)
from llmsmc.storage.typed import mismatch, shown

TYPES: Final = {
    "cost": "llmsmc.core.cost:Cost",
    "merged": "llmsmc.core.history:Merged",
    "step": "llmsmc.core.history:StepRecord",
    "solution": "llmsmc.models.reasoning.particles:ReasoningParticle",
    "solutions": "llmsmc.models.reasoning.particles:ReasoningParticles",
    "posterior": "llmsmc.results.posterior:Posterior",
}
"""Tag -> where the type is defined now, for types that any document may name. A type with a method
`check` is asked whether its parts fit together."""

ALIASES: Final = {
    "llmsmc.cost:Cost": "cost",
    "llmsmc.history:Merged": "merged",
    "llmsmc.history:StepRecord": "step",
    "llmsmc.models.reasoning.particles:ReasoningParticle": "solution",
    "llmsmc.models.reasoning.particles:ReasoningParticles": "solutions",
    "llmsmc.posterior:Posterior": "posterior",
}
"""Names in documents that were written before there were tags -> tag."""

SAVED: Final = "saved"
"""A field of a dataclass whose metadata have False under this key is left out, and has its default
again when the value is read."""

_DOCUMENT: Final = "document.json"
_TENSORS: Final = "tensors.safetensors"
_HASH: Final = re.compile("[0-9a-f]{32}")
_FLOATS: Final = ("nan", "inf", "-inf")
_PATIENCE: Final = 60.0  # seconds for another save into the same folder


def save(value: Any, path: str | Path) -> None:
    """Write `value` into the folder `path`, which is created; an earlier value there is replaced.

    Raises:
        InputError: the value cannot be saved, or not there. An earlier value is kept.
    """
    folder = Path(path)
    try:
        document, tensors = encode(value)
        too_deep = depth(document) > MAX_DEPTH
    except RecursionError:
        too_deep = True
    if too_deep:
        raise InputError(
            f"This is nested too deeply to be saved, or contains itself. Got {shown(type(value))}; "
            f"accepted: at most {MAX_DEPTH} levels of JSON."
        )
    try:
        content = bytes_of(tensors)
    except Exception as error:  # the library names no errors that it raises
        raise InputError(
            f"This cannot be saved: {error}. Accepted: what safetensors has."
        ) from error
    named = _hash(content)
    text = json.dumps({"format": FORMAT, "tensors": named, "value": document}, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock", timeout=_PATIENCE):
            write_bytes(_waiting(folder, named), content)
            write_bytes(folder / _DOCUMENT, text.encode())  # from here on, it is the new value
            _waiting(folder, named).replace(folder / _TENSORS)
            for pattern in ("tensors-*.safetensors", ".*.partial"):
                for left in folder.glob(pattern):  # by saves that were interrupted
                    left.unlink()
    except (OSError, ValueError) as error:
        raise unwritable(folder, error) from error


def load(path: str | Path, types: Iterable[type] = ()) -> Any:
    """Read the value in the folder `path`; `types` are the dataclasses of yours it may contain.

    Raises:
        InputError: nothing was saved there, or the files have changed since; the message says how.
    """
    folder = Path(path)
    allowed = _by_name(types)
    try:
        if not (folder / _DOCUMENT).exists():
            raise InputError("Nothing saved is found")
        document, tensors = _read(folder)
        return _Reading(tensors, allowed).value(document)
    except RecursionError as error:
        raise _unreadable(path, "it is nested too deeply") from error
    except (LlmsmcError, OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error


def encode(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return the JSON document of `value` and copies of the tensors that it names."""
    tensors: dict[str, Tensor] = {}
    return _encode(value, tensors, {}), tensors


def _encode(value: Any, tensors: dict[str, Tensor], seen: dict[int, tuple[Tensor, str]]) -> Any:
    """Return the JSON form of `value`; tensors go to `tensors`, each of them once."""

    def encode(child: Any) -> Any:
        return _encode(child, tensors, seen)

    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case Tensor() if value.layout is torch.strided and not value.is_meta:
            if id(value) not in seen:
                name = str(len(tensors))
                tensors[name] = value.detach().cpu().contiguous().clone()
                seen[id(value)] = (value, name)
            return {"tensor": seen[id(value)][1]}
        case list():
            return [encode(child) for child in value]
        case tuple() if hasattr(value, "_fields"):
            children = dict(zip(value._fields, value, strict=True))
            return {"type": _name(type(value)), "fields": encode(children)}
        case tuple():
            return {"tuple": [encode(child) for child in value]}
        case dict() if all(isinstance(key, str) for key in value):
            return {"dict": {key: encode(child) for key, child in value.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        children = {field.name: getattr(value, field.name) for field in _saved(value)}
        return {"type": _name(type(value)), "fields": encode(children)}
    raise InputError(
        f"This cannot be saved. Got a {type(value).__name__}; accepted: None, numbers, strings, "
        "tensors, lists, tuples, dicts with string keys, and dataclasses of these."
    )


class _Reading:
    """A document that is read: the tensors that it may name, and the types."""

    def __init__(self, tensors: dict[str, Tensor], types: dict[str, type]) -> None:
        self._tensors, self._types = tensors, types

    def value(self, document: Any) -> Any:
        """Return the value of a document, or of a part of one."""
        match document:
            case None | bool() | int() | float() | str():
                return document
            case list():
                return [self.value(child) for child in document]
            case {"float": str(text)} if len(document) == 1 and text in _FLOATS:
                return float(text)
            case {"tensor": str(name)} if len(document) == 1 and name in self._tensors:
                return self._tensors[name]
            case {"tuple": list(children)} if len(document) == 1:
                return tuple(self.value(child) for child in children)
            case {"dict": dict(children)} if len(document) == 1:
                return {key: self.value(child) for key, child in children.items()}
            case {"type": str(name), "fields": {"dict": dict(children)}} if len(document) == 2:
                return self._made(name, children)
        raise InputError(
            f"a part of the document is of no known kind, or names no tensor: {shown(document)}"
        )

    def _made(self, name: str, documents: dict[str, Any]) -> Any:
        """Return an object of a type of that name, given the documents of its parts."""
        tag = ALIASES.get(name, name)
        cls = self._types.get(name) or _of_the_library(tag)
        accepted, required = _parts(cls)
        if tag in TYPES:
            documents = {key: each for key, each in documents.items() if key in accepted}
        if not required <= documents.keys() <= accepted:
            raise InputError(
                f"A {cls.__name__} has other parts: got {shown(sorted(documents))}, not "
                f"{', '.join(sorted(accepted))}"
            )
        children = {key: self.value(each) for key, each in documents.items()}
        if tag in TYPES:
            _check_types(cls, children)
        try:
            made = cls(**children)
        except Exception as error:  # a class of the reader's may raise anything
            raise InputError(f"No {cls.__name__} can be made of it: {shown(str(error))}") from error
        if tag in TYPES and hasattr(made, "check"):
            made.check()
        return made


def _read(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    """Return the document and its tensors; another process may be saving meanwhile."""
    before = None
    while (text := read_bytes(folder / _DOCUMENT)) != before:
        before, document = text, loads(text)
        if not (isinstance(document, dict) and document.keys() >= {"tensors", "value"}):
            # As documents were before they named their tensors.
            return document, _tensors(read_bytes(folder / _TENSORS))
        check_format(document)
        for path in (folder / _TENSORS, _waiting(folder, str(document["tensors"]))):
            content = read_bytes(path) if path.exists() else b""
            if _hash(content) == document["tensors"]:
                return document["value"], _tensors(content)
    raise InputError(
        f"{_TENSORS} is missing, or was saved with another {_DOCUMENT}: a save was interrupted, or "
        "files were copied"
    )


def _tensors(content: bytes) -> dict[str, Tensor]:
    try:
        return tensors_of(content)
    except Exception as error:  # the library names no errors that it raises
        raise InputError(f"{_TENSORS} is no file of safetensors: {error}") from error


def _waiting(folder: Path, named: str) -> Path:
    """Return where tensors are until their document is in its place."""
    if not _HASH.fullmatch(named):
        raise InputError(f"The document names no tensors: {shown(named)}")
    return folder / f"tensors-{named}.safetensors"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _name(cls: type) -> str:
    """Return the name of a class in documents: its tag if it belongs to the library."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    return next((tag for tag, where in TYPES.items() if where == place), place)


def _by_name(types: Iterable[type]) -> dict[str, type]:
    allowed = {}
    for cls in types:
        if not isinstance(cls, type) or not (dataclasses.is_dataclass(cls) or _is_named(cls)):
            raise InputError(
                f"Types are those of parts of the value. Got {shown(cls)}; accepted: dataclasses "
                "and named tuples."
            )
        allowed[_name(cls)] = cls
    return allowed


def _of_the_library(tag: str) -> type:
    if tag not in TYPES:
        raise InputError(
            f"The file contains a type that is not known here: {shown(tag)}. Accepted: "
            f"{', '.join(TYPES)}, and those passed as `types`"
        )
    module, _, qualname = TYPES[tag].partition(":")
    found: type = getattr(importlib.import_module(module), qualname)
    return found


def _parts(cls: Any) -> tuple[set[str], set[str]]:
    """Return the names of the fields of an object, and of its required fields."""
    if _is_named(cls):
        return set(cls._fields), set(cls._fields) - cls._field_defaults.keys()
    nothing = dataclasses.MISSING
    return {each.name for each in _saved(cls)}, {
        each.name for each in _saved(cls) if each.default is each.default_factory is nothing
    }


def _saved(made: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a dataclass that are saved."""
    return [
        each for each in dataclasses.fields(made) if each.init and each.metadata.get(SAVED, True)
    ]


def _is_named(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _check_types(cls: type, children: dict[str, Any]) -> None:
    """Compare the parts with the annotations of a class; sizes of one name are one size."""
    hints = get_type_hints(cls)
    sizes: dict[str, int] = {}
    for key, child in children.items():
        wrong = mismatch(child, hints[key], f"{cls.__name__}.{key}")
        if wrong is not None:
            raise InputError(wrong)
        names = _dimensions(hints[key]) if isinstance(child, Tensor) else []
        for name, size in zip(names, child.shape if names else (), strict=True):
            if sizes.setdefault(name, size) != size:
                raise InputError(
                    f"{cls.__name__}.{key} is {shown(child)}; accepted: {name} = {sizes[name]}, as "
                    "in other parts"
                )


def _dimensions(kind: Any) -> list[str]:
    """Return the names of the sizes of a tensor with this annotation, if it has any."""
    names = [each.dim_str for each in (kind, *get_args(kind)) if hasattr(each, "dim_str")]
    return names[0].split() if names else []


def _unreadable(path: str | Path, reason: str) -> InputError:
    return InputError(
        f"What is saved cannot be read: {reason.rstrip('.')}. Got {str(path)!r}; accepted: a "
        "folder made by `save`, as it was made."
    )
