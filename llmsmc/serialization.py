"""Values as a JSON document beside a file of tensors; no pickle, nothing executed on reading.

A value is made of None, numbers, strings, tensors, lists, tuples, dicts with string keys, and
dataclasses of these. Only dataclasses of this library are restored by themselves; others are
named by the reader.
"""

import contextlib
import importlib
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from llmsmc.errors import InputError

_DOCUMENT, _TENSORS = "document.json", "tensors.safetensors"


def save(value: Any, path: str | Path) -> None:
    """Write `value` into the folder `path`, which is created."""
    folder = Path(path)
    document, tensors = encode(value)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / _TENSORS)
    (folder / _DOCUMENT).write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def load(path: str | Path, types: Iterable[type] = ()) -> Any:
    """Read the value in the folder `path`; `types` are the dataclasses of yours it may contain."""
    folder = Path(path)
    if not (folder / _DOCUMENT).is_file():
        raise InputError(f"Nothing saved is found. Got {path}; accepted: a folder made by `save`.")
    document = json.loads((folder / _DOCUMENT).read_text(encoding="utf-8"))
    return _decode(document, load_file(folder / _TENSORS), {_name(cls): cls for cls in types})


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
        case Tensor():
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
    if is_dataclass(value) and not isinstance(value, type):
        children = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return {"type": _name(type(value)), "fields": encode(children)}
    raise InputError(
        f"This cannot be saved. Got a {type(value).__name__}; accepted: None, numbers, strings, "
        "tensors, lists, tuples, dicts with string keys, and dataclasses of these."
    )


def _decode(document: Any, tensors: dict[str, Tensor], types: dict[str, type]) -> Any:
    def decode(child: Any) -> Any:
        return _decode(child, tensors, types)

    match document:
        case {"float": text}:
            return float(text)
        case {"tensor": name}:
            return tensors[name]
        case {"tuple": children}:
            return tuple(decode(child) for child in children)
        case {"dict": children}:
            return {key: decode(child) for key, child in children.items()}
        case {"type": name, "fields": children}:
            return _find(name, types)(**decode(children))
        case list():
            return [decode(child) for child in document]
    return document


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _find(name: str, types: dict[str, type]) -> type:
    """Return the type of that name: one of `types`, or a dataclass or named tuple of the library.

    No module is imported for it but those of models and algorithms, whose import has no effects.
    """
    module, _, qualname = name.partition(":")
    found: Any = types.get(name)
    if module in sys.modules and module.startswith("llmsmc."):
        found = found or getattr(sys.modules[module], qualname, None)
    elif module.startswith(("llmsmc.models.", "llmsmc.inference.")):
        with contextlib.suppress(ImportError):
            found = found or getattr(importlib.import_module(module), qualname, None)
    if isinstance(found, type) and (is_dataclass(found) or hasattr(found, "_fields")):
        return found
    raise InputError(
        f"The file contains a type that is not known here. Got {name}; accepted: dataclasses and "
        "named tuples of this library, and those passed as `types`."
    )
