"""Rows of what a network has computed, whichever holds them, and which of them are whose.

Each row has a length of its own and holds what stands at positions 0 .. length - 1. Populations
that descend from one another share rows. Where and how a row is held is the network's own affair:
as keys and values in this process (`llmsmc.models.caches.row_cache`), or in an engine's memory.

Shapes: B rows, M of them, N particles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

TOKENS_PER_BLOCK: Final = 64  # capacities grow by multiples of this many tokens
UNLIMITED: Final = 2**62  # rows


@runtime_checkable
class Rows(Protocol):
    """B rows with one true length each.

    What moves rows says where they are afterwards; their numbers have one owner at a time, who
    takes note of it.

    Attributes:
        lengths: how many tokens each row holds.
    """

    lengths: Int[Tensor, " B"]

    @property
    def num_rows(self) -> int:
        """The number of rows B."""
        ...

    @staticmethod
    def gathered(parts: Any, room: int = 0) -> "Rows":
        """Return new rows of the kind of these; see `gather`."""
        ...

    def select(self, indices: Int[Tensor, " M"]) -> "Rows":
        """Return new, independent rows like these; any order, repeats allowed."""
        ...

    def truncate(self, lengths: Int[Tensor, " B"]) -> None:
        """Forget all but the first `lengths` tokens of each row."""
        ...

    def moved_out(self) -> "Rows":
        """Return the rows, none of which is left here."""
        ...

    def hold(self, rows: Int[Tensor, " M"], lengths: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
        """Hold the first `lengths` tokens of these rows, and nothing else; return where they are.

        Rows come in any order, repeats allowed.
        """
        ...

    def append(
        self,
        source: Any,
        rows: Int[Tensor, " M"],
        lengths: Int[Tensor, " M"],
        max_rows: int = UNLIMITED,
    ) -> Int[Tensor, " M"]:
        """Append copies of the first `lengths` tokens of rows of `source`; return where they are.

        There will never be more than `max_rows`.
        """
        ...

    def put_in_front(self, rows: Int[Tensor, " M"]) -> Int[Tensor, " B"]:
        """Exchange rows, so that these are the first; return where each of the B rows is now."""
        ...

    def keep(
        self, rows: Int[Tensor, " M"], front: Int[Tensor, " K"] | None = None
    ) -> Int[Tensor, " B"]:
        """Forget the other rows; return where each of the B rows is now, -1 for those gone.

        Args:
            rows: those that stay, each once, in ascending order.
            front: those of them that are to be the first.
        """
        ...

    def wipe(self, rows: Int[Tensor, " M"]) -> None:
        """Forget the numbers of these rows, which may be no numbers."""
        ...


def gather(parts: Sequence[tuple[Rows, Int[Tensor, " _"]]], room: int = 0) -> Rows:
    """Return a new cache with rows of several of one kind, in order.

    Args:
        parts: the caches, and which of their rows; any order, repeats allowed.
        room: for how many more tokens a row there is to be room at first.
    """
    return parts[0][0].gathered(parts, room)


@dataclass(frozen=True, eq=False)
class CacheRows:
    """For each of N particles a row of `cache`, or -1 for none, and how much of it is theirs.

    All populations that descend from one another share the cache, and it is never written to again.
    Resampling gathers row numbers only; extending particles copies the rows that are needed, in one
    gather.

    If the cache is donated, the consumer may take the buffers over instead of copying rows. Other
    handles then report no rows, and their models recompute what was cached.

    Attributes:
        cache: the shared cache; None if no particle has a row.
        rows: the row of each particle, or -1.
        lengths: how many tokens of its row are the particle's.
        is_donated: whether the cache is donated: only the consumer of these rows needs it again.
    """

    cache: Rows | None
    rows: Int[Tensor, " N"]
    lengths: Int[Tensor, " N"]
    is_donated: bool = False

    @classmethod
    def none(cls, num_particles: int) -> "CacheRows":
        """Return the rows of N particles without cached tokens."""
        zeros = torch.zeros(num_particles, dtype=torch.long)
        return cls(None, zeros - 1, zeros)

    @property
    def present(self) -> Bool[Tensor, " N"]:
        """Which particles have a row: none, if the buffers have been moved out of the cache."""
        num_rows = 0 if self.cache is None else self.cache.num_rows
        return (self.rows >= 0) & (num_rows > 0)

    def split(self, num_models: int) -> "tuple[CacheRows, ...]":
        """Return a handle for each of `num_models` models, with nothing cached."""
        return (CacheRows.none(len(self.rows)),) * num_models

    def take(self, indices: Int[Tensor, " M"]) -> "CacheRows":
        """Return the rows of the particles `indices`."""
        return replace(self, rows=self.rows[indices], lengths=self.lengths[indices])

    def keep(self, mask: Bool[Tensor, " N"]) -> "CacheRows":
        """Forget the rows of the other particles, and the cache if no row is left."""
        kept = replace(self, rows=torch.where(mask, self.rows, -1))
        return kept if bool(kept.present.any()) else replace(kept, cache=None)

    def donated(self) -> "CacheRows":
        """Return the rows, donated to their last consumer."""
        return replace(self, is_donated=True)

    def truncate(self, lengths: Int[Tensor, " N"]) -> "CacheRows":
        """Forget all but the first `lengths` tokens of each particle; nothing is copied."""
        return replace(self, lengths=torch.minimum(self.lengths, lengths))

    def own(self) -> "CacheRows":
        """Return the rows in a cache of their own, if this cache has other rows as well."""
        if self.cache is None:
            return self
        rows, which = torch.unique(self.rows[self.present], return_inverse=True)
        if len(rows) == self.cache.num_rows:
            return self
        moved = self.rows.masked_scatter(self.present, which)
        return CacheRows(gather([(self.cache, rows)]), moved, self.lengths)


@dataclass(frozen=True, eq=False)
class JointHandle:
    """The handles of several models for the same N particles."""

    parts: "tuple[CacheRows | JointHandle, ...]"

    def split(self, num_models: int) -> "tuple[CacheRows | JointHandle, ...]":
        """Return the handle of each model."""
        assert num_models == len(self.parts)
        return self.parts

    def take(self, indices: Int[Tensor, " M"]) -> "JointHandle":
        """Return what is cached of the particles `indices`."""
        return JointHandle(tuple(part.take(indices) for part in self.parts))

    def keep(self, mask: Bool[Tensor, " N"]) -> "JointHandle":
        """Forget what is cached of the other particles."""
        return JointHandle(tuple(part.keep(mask) for part in self.parts))

    def donated(self) -> "JointHandle":
        """Return the rows, donated to their last consumer."""
        return JointHandle(tuple(part.donated() for part in self.parts))


CacheHandle = CacheRows | JointHandle


def join_handles(parts: list[CacheHandle]) -> CacheHandle:
    """Return what is cached of the particles of all `parts`, in order.

    Parts of one model have rows, those of several models have several; with nothing cached, both
    are the same.
    """
    joint = next((part for part in parts if isinstance(part, JointHandle)), None)
    if joint is None:
        return join([part for part in parts if isinstance(part, CacheRows)])
    columns = zip(*(part.split(len(joint.parts)) for part in parts), strict=True)
    return JointHandle(tuple(join_handles(list(column)) for column in columns))


def join(parts: list[CacheRows]) -> CacheRows:
    """Return the rows of the particles of all `parts`, in order.

    Only when rows of different caches are needed are these copied into one.
    """
    holders = [part for part in parts if bool(part.present.any())]
    if len({id(part.cache) for part in holders}) > 1:
        holders = parts = _in_one_cache(parts)
    rows = torch.cat([part.rows.where(part.present, -1) for part in parts])
    lengths = torch.cat([part.lengths for part in parts])
    cache = holders[0].cache if holders else None
    return CacheRows(cache, rows, lengths, all(part.is_donated for part in holders))


def _in_one_cache(parts: list[CacheRows]) -> list[CacheRows]:
    """Copy what the parts need into a new cache that they share."""
    holders = [part.present.nonzero().squeeze(1) for part in parts]
    pairs = [(part, held) for part, held in zip(parts, holders, strict=True) if len(held)]
    held_rows = [(part.cache, part.rows[held]) for part, held in pairs if part.cache is not None]
    shared = gather(held_rows, room=TOKENS_PER_BLOCK)
    shared.truncate(torch.cat([part.lengths[held] for part, held in pairs]))
    moved, start = [], 0
    for part, held in zip(parts, holders, strict=True):
        rows = torch.full((len(part.rows),), -1)
        rows[held] = torch.arange(start, start + len(held))
        start += len(held)
        moved.append(CacheRows(shared, rows, part.lengths))
    return moved


def padded_rows(
    rows: Sequence[Sequence[int] | Sequence[float]], dtype: torch.dtype = torch.long
) -> tuple[Shaped[Tensor, "B L"], Int[Tensor, " B"]]:
    """Return the rows, at least one, padded with zeros on the right, and their lengths."""
    padded = pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True)
    return padded, torch.tensor([len(row) for row in rows])
