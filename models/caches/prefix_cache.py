"""The key-value caches of the beginnings that prompts share.

Prompts of one task differ in their questions: the system prompt, often most of them, is the same.
Its keys and values are computed once and copied for each prompt. The last few are kept, for the
weights with which they were computed.
"""

from collections.abc import Callable
from typing import Final

from torch import nn

from llmsmc.models.caches.rows import Rows

MAX_PREFIXES: Final = 4


class PrefixCache:
    """Caches of one row each, by the ids in them; the least recently used leaves."""

    def __init__(self, weights: nn.Module, compute: Callable[[tuple[int, ...]], Rows]) -> None:
        """Take the model, and what makes the cache of ids, which stand at positions 0, 1, ..."""
        self._weights, self._compute = weights, compute
        self._rows = dict[tuple[int, ...], Rows]()
        self._version = _version(weights)

    def row(self, ids: tuple[int, ...]) -> tuple[Rows, bool]:
        """Return the cache of the ids, and whether it had to be computed."""
        version = _version(self._weights)
        if version != self._version:  # trained, or loaded anew
            self._rows, self._version = {}, version
        row = self._rows.pop(ids, None)
        is_new = row is None
        if row is None:
            row = self._compute(ids)
            if len(self._rows) >= MAX_PREFIXES:
                self._rows.pop(next(iter(self._rows)), None)
        self._rows[ids] = row  # the last is the most recently used
        return row, is_new


def _version(weights: nn.Module) -> list[tuple[int, int]]:
    """Return where each weight lies, and how often it was written to.

    Packed weights have no address, and are never written to.
    """
    return [
        (id(each), 0)
        if each.is_mkldnn
        else (each.data_ptr(), 0 if each.is_inference() else each._version)
        for each in weights.parameters()
    ]
