"""Files as they are read and written: whole or not at all, and strictly JSON."""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from llmsmc.errors import InputError

FORMAT: Final = 1
"""The format of the files that are written. It rises when a file could be misread by the code of
before; a file without a number is older than the first."""

MAX_DEPTH: Final = 100
"""How deeply a JSON document may be nested."""


def check_format(document: dict[str, Any]) -> None:
    """Find out whether a document is of a format that is known here.

    Raises:
        ValueError: a later version has written it.
    """
    found = document.get("format", 0)
    if type(found) is not int or not 0 <= found <= FORMAT:
        raise ValueError(
            f"it has the format {str(found)[:20]!r}, which is not that of a file of this version "
            f"or an earlier one (at most {FORMAT}); a later version of llmsmc reads it"
        )


def unwritable(path: Path, reason: str | Exception) -> InputError:
    """Return the error that says why something cannot be written."""
    if isinstance(reason, Exception):
        reason = getattr(reason, "strerror", None) or str(reason)
    return InputError(
        f"The result cannot be written ({reason}). Got {str(path)!r}; accepted: a place that "
        "exists, with room, that may be written to."
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; a reader sees the old one or the new one, never half of each.

    Raises:
        OSError: it cannot be written.
    """
    target = path.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink()


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read, or is not an ordinary file, from which one might wait for ever.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is not an ordinary file")
    return path.read_bytes()


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not strictly JSON: no UTF-8, a number that is none or that no machine
            has, the same key twice; or it is nested more than `MAX_DEPTH` levels deep. Says what
            is wrong, and at which character or byte.
    """
    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode(),
            object_pairs_hook=_unique,
            parse_constant=_number,
            parse_float=_number,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON at character {error.pos + 1} ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 at byte {error.start + 1}") from error
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep") from error
    if depth(value) > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    return value


def depth(value: Any) -> int:
    """Return how many lists and dicts of a JSON value stand in one another at most."""
    found, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, dict | list)]:
        found += 1
        layer = [
            child for each in layer for child in (each.values() if isinstance(each, dict) else each)
        ]
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no number of JSON, or too large for one of a machine")
    return number
