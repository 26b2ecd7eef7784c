"""The header of a GGUF file: what the file says of its model, and where its tensors lie.

A GGUF file is one file of little-endian numbers: the letters "GGUF", a version, the number of
tensors and of metadata; the metadata, each a name, a type and a value; a name, a shape, a type and
a place for each tensor; and the tensors. A file may say anything, so that every number is held
against the size of the file before anything is read or made by it.

Reference: ggml-org, "GGUF", docs/gguf.md of the repository ggml.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from llmsmc.errors import InputError
from llmsmc.models.pretrained.names import GGUF_MAGIC

_VERSIONS: Final = (2, 3)
_NUMBERS: Final = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING: Final = 8
_ARRAY: Final = 9
_MAX_DIMENSIONS: Final = 4
_MAX_NAME: Final = 2**16 - 1  # bytes of a name of metadata
_MAX_METADATA: Final = 2**14
_MAX_TENSORS: Final = 2**17
_MAX_ENTRIES: Final = 2**24  # of a list: the largest vocabulary
_ALIGNMENT: Final = 32


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file, and how.

    Attributes:
        shape: its shape; the last dimension is the one whose numbers lie side by side.
        kind: the number of its type in ggml.
        start: the position of its first byte in the file.
        num_bytes: how many bytes it has; 0 where the type is not known.
    """

    shape: tuple[int, ...]
    kind: int
    start: int
    num_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What stands before the tensors of a GGUF file.

    Attributes:
        path: the file.
        metadata: its metadata, by name.
        tensors: its tensors, by name.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    @property
    def architecture(self) -> str:
        """The name of the architecture."""
        return str(self.metadata.get("general.architecture", ""))

    def of_architecture(self, name: str, default: Any = None) -> Any:
        """Return the metadata `name` of the architecture, such as "block_count"."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def of_tokenizer(self, name: str, default: Any = None) -> Any:
        """Return the metadata `name` of the tokenizer, such as "tokens"."""
        return self.metadata.get(f"tokenizer.ggml.{name}", default)


def read_header(path: str | Path) -> GgufHeader:
    """Return the header of a GGUF file.

    Raises:
        InputError: the file cannot be read, is something else, is cut short, or has a header that
            no file of its size has.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise _no_gguf(path, "an empty file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).header()
    except OSError as error:
        raise InputError(
            f"This file cannot be read. Got {str(path)!r} ({error.strerror}); accepted: a GGUF "
            "file."
        ) from error


def _no_gguf(path: Path, got: str) -> InputError:
    return InputError(
        f"{path} is not a GGUF file that can be read. Got {got}; accepted: a whole GGUF file of "
        f"version {' or '.join(map(str, _VERSIONS))}."
    )


class _Reader:
    """Reads numbers, texts and lists one behind the other, never behind the end of the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._size = path, data, len(data)
        self._position = 0
        self._reading = "its header"

    def header(self) -> GgufHeader:
        """Read the whole header."""
        magic = self._data[:4]
        if magic != GGUF_MAGIC:
            raise _no_gguf(self._path, f"a file that begins with {magic!r}")
        self._position = 4
        version = self._number("I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
            order = " in big-endian order" if swapped in _VERSIONS else ""
            raise _no_gguf(self._path, f"version {swapped if order else version}{order}")
        num_tensors, num_entries = self._number("Q"), self._number("Q")
        self._require("tensors", num_tensors, min(_MAX_TENSORS, self._left() // 24))
        self._require("entries of metadata", num_entries, min(_MAX_METADATA, self._left() // 12))
        metadata = dict[str, Any]()
        for _ in range(num_entries):
            self._reading = "its metadata"
            name = self._text(_MAX_NAME)
            self._reading = f"its metadata {name[:60]!r}"
            metadata[name] = self._value(self._number("I"))
        self._reading = "its list of tensors"
        entries = [self._entry() for _ in range(num_tensors)]
        return GgufHeader(self._path, metadata, self._tensors(metadata, entries))

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """Read the name of a tensor, its shape, its type, and where it begins."""
        name, dimensions = self._text(_MAX_NAME), self._number("I")
        self._require(f"dimensions of {name[:60]!r}", dimensions, _MAX_DIMENSIONS)
        shape = tuple(self._number("Q") for _ in range(dimensions))
        return name, shape[::-1], self._number("I"), self._number("Q")

    def _tensors(
        self, metadata: Mapping[str, Any], entries: list[tuple[str, tuple[int, ...], int, int]]
    ) -> dict[str, StoredTensor]:
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**16:
            raise _no_gguf(self._path, f"general.alignment = {alignment!r}")
        beginning = -(-self._position // alignment) * alignment
        tensors = dict[str, StoredTensor]()
        for name, shape, kind, offset in entries:
            size = _num_bytes(kind, shape)
            if size < 0:
                raise _no_gguf(self._path, f"the tensor {name[:60]!r} with a row of no whole block")
            if beginning + offset + size > self._size:
                what = f"the tensor {name[:60]!r} of shape {[*shape]}"
                raise self._cut_short(what, beginning + offset + size)
            if name in tensors:
                raise _no_gguf(self._path, f"two tensors named {name[:60]!r}")
            tensors[name] = StoredTensor(shape, kind, beginning + offset, size)
        return tensors

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._text(self._size)
        if kind == _ARRAY and depth == 0:
            kind, count = self._number("I"), self._number("Q")
            self._require(f"entries of {self._reading}", count, min(_MAX_ENTRIES, self._left()))
            if kind in _NUMBERS:
                form = f"<{count}{_NUMBERS[kind]}"
                return list(struct.unpack(form, self._bytes(struct.calcsize(form))))
            return [self._value(kind, depth + 1) for _ in range(count)]
        raise _no_gguf(self._path, f"a value of type {kind} in {self._reading}")

    def _number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))[0]

    def _text(self, limit: int) -> str:
        length = self._number("Q")
        self._require(f"bytes of a text in {self._reading}", length, limit)
        return self._bytes(length).decode("utf-8", errors="replace")

    def _bytes(self, count: int) -> bytes:
        end = self._position + count
        if end > self._size:
            raise self._cut_short(self._reading, end)
        found, self._position = self._data[self._position : end], end
        return found

    def _left(self) -> int:
        return self._size - self._position

    def _require(self, what: str, count: int, limit: int) -> None:
        if count > limit:
            raise _no_gguf(
                self._path, f"{count:,} {what} in {self._size:,} bytes, cut short or damaged"
            )

    def _cut_short(self, what: str, needed: int) -> InputError:
        return _no_gguf(
            self._path,
            f"one that is cut short: {self._size:,} bytes, and {what} ends at byte {needed:,}",
        )


def _num_bytes(kind: int, shape: tuple[int, ...]) -> int:
    """Return the size of a tensor; 0 for an unknown type, -1 where its rows are no whole blocks."""
    try:
        block, num_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        return 0
    if shape and shape[-1] % block:
        return -1
    return math.prod(shape) // block * num_bytes
