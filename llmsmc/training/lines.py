"""Files of JSON lines that grow as work is done, and outlive whatever ends it.

Rows are on the disk when `append` returns. A process that is killed while it writes leaves a last
line that was cut, which is dropped when the file is opened again; everything before it is kept.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmsmc.errors import InputError
from llmsmc.storage.json_files import dumps, unwritable
from llmsmc.storage.strict_files import loads, read_bytes
from llmsmc.storage.typed import shown

Row = dict[str, Any]


class Lines:
    """A file with one JSON object a line.

    Attributes:
        path: the file.
        rows: the objects in it.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; a last line that was cut is dropped.

        Raises:
            InputError: it cannot be read or written, or a line that was finished is no object.
        """
        self.path = path
        try:
            self.rows, size = _finished(path)
            with path.open("ab") as file:
                file.truncate(size)
        except OSError as error:
            raise unwritable(path, error) from error

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows behind the others; either all of them are in the file, or none.

        Raises:
            InputError: they cannot be written.
        """
        content = "".join(f"{dumps(row)}\n" for row in rows).encode()
        try:
            with self.path.open("ab") as file:
                size = file.seek(0, os.SEEK_END)
                try:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):  # a disk without room has room for less
                        file.truncate(size)
                    raise
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.rows += rows

    def keep(self, count: int) -> None:
        """Drop all rows but the first `count`.

        Raises:
            InputError: the file cannot be written.
        """
        if count == len(self.rows):
            return
        try:
            lines = read_bytes(self.path).splitlines(keepends=True)
            with self.path.open("r+b") as file:
                file.truncate(sum(map(len, lines[:count])))
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error
        del self.rows[count:]


def read_rows(path: Path) -> list[Row]:
    """Return the objects in a file that is left as it is, whoever is writing it; none without one.

    Raises:
        InputError: it cannot be read, or a line that was finished is no object.
    """
    try:
        return _finished(path)[0]
    except OSError as error:
        raise unwritable(path, error) from error


def _finished(path: Path) -> tuple[list[Row], int]:
    """Return the objects in the lines that were finished, and the bytes that these have."""
    content = read_bytes(path) if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    return [_row(path, n, line) for n, line in enumerate(whole.splitlines(), start=1)], len(whole)


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = loads(line)
    except ValueError as error:
        raise _broken(path, number, str(error)) from error
    if not isinstance(row, dict):
        raise _broken(path, number, f"it is {shown(row)}")
    return row


def _broken(path: Path, number: int, reason: str) -> InputError:
    return InputError(
        f"Each line is one object of JSON. Got something else at line {number} of {str(path)!r}: "
        f"{reason}. Accepted: the file as it was written, or none."
    )
