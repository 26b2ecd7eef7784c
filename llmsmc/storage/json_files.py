"""JSON files of the entry points: written whole or not at all, and strictly JSON."""

import importlib.metadata
import json
import math
import os
import platform
import tempfile
from pathlib import Path
from typing import Any, Final

from llmsmc._version import __version__
from llmsmc.storage.strict_files import check_format, loads, read_bytes, write_bytes
from llmsmc.storage.strict_files import unwritable as unwritable
from llmsmc.storage.typed import mismatch

_PACKAGES: Final = ("torch", "transformers", "bitsandbytes")


def versions() -> dict[str, str]:
    """Return the versions of the software that a result depends on."""
    found = {"llmsmc": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check_writable(path: Path) -> None:
    """Find out before a long run whether its result can be written.

    Raises:
        InputError: the file cannot be made.
    """
    try:
        reason = _obstacle(path.resolve())
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    if reason is not None:
        raise unwritable(path, reason)


def _obstacle(target: Path) -> str | None:
    """Return why a file cannot be written, None if it can."""
    if target.is_dir():
        return "that is a folder"
    if target.exists() and not target.is_file():
        return "that is not an ordinary file"
    if target.exists() and not os.access(target, os.W_OK):
        return "the file may not be changed"
    if not target.parent.is_dir():
        return "there is no such folder"
    with tempfile.NamedTemporaryFile(dir=target.parent):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; a reader sees the old one or the new one, never half of each.

    Raises:
        InputError: it cannot be written.
    """
    content = f"{dumps(value, indent=2)}\n".encode()
    try:
        write_bytes(path, content)
    except OSError as error:
        raise unwritable(path, error) from error


def read_document(path: Path, kind: Any) -> Any:
    """Return the document in a JSON file.

    Args:
        path: the file.
        kind: the annotation of accepted documents.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON, of another type, or of a later format; the message says which.
    """
    document = loads(read_bytes(path))
    wrong = mismatch(document, kind, "the file")
    if wrong is not None:
        raise ValueError(wrong)
    check_format(document)
    return document


def dumps(value: Any, indent: int | None = None) -> str:
    """Return the JSON text of a value; numbers that JSON does not have become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=indent is None)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(child) for child in value]
    return value
