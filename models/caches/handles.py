"""Which row of a shared cache belongs to which particle."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmsmc.models.caches.row_cache import RowCache, concatenate, gather


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
        is_given_up: whether the cache is donated: only the consumer of these rows needs it again.
    """

    cache: RowCache | None
    rows: Int[Tensor, " N"]
    lengths: Int[Tensor, " N"]
    is_given_up: bool = False

    @classmethod
    def none(cls, num_particles: int) -> "CacheRows":
        """Return the rows of N particles without cached tokens."""
        zeros = torch.zeros(num_particles, dtype=torch.long)
        return cls(None, zeros - 1, zeros)

    def __len__(self) -> int:
        """Return N."""
        return len(self.rows)

    @property
    def present(self) -> Bool[Tensor, " N"]:
        """Which particles have a row: none, if the buffers have been moved out of the cache."""
        num_rows = 0 if self.cache is None else self.cache.num_rows
        return (self.rows >= 0) & (num_rows > 0)

    def split(self, num_models: int) -> "tuple[CacheRows, ...]":
        """Return a handle for each of `num_models` models, with nothing cached."""
        return (CacheRows.none(len(self)),) * num_models

    def take(self, indices: Int[Tensor, " M"]) -> "CacheRows":
        """Return the rows of the particles `indices`."""
        return replace(self, rows=self.rows[indices], lengths=self.lengths[indices])

    def keep(self, mask: Bool[Tensor, " N"]) -> "CacheRows":
        """Forget the rows of the other particles, and the cache if no row is left."""
        kept = replace(self, rows=torch.where(mask, self.rows, -1))
        return kept if bool(kept.present.any()) else replace(kept, cache=None)

    def given_up(self) -> "CacheRows":
        """Return the rows, donated to their last consumer."""
        return replace(self, is_given_up=True)

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

    def copy(self, indices: Int[Tensor, " M"]) -> RowCache:
        """Return an independent cache with the rows of the particles `indices`, which have one."""
        assert self.cache is not None
        copied = self.cache.select(self.rows[indices])
        copied.truncate(self.lengths[indices].to(copied.lengths.device))
        return copied


@dataclass(frozen=True, eq=False)
class JointRows:
    """The handles of several models for the same N particles."""

    parts: "tuple[CacheRows | JointRows, ...]"

    def __len__(self) -> int:
        """Return N."""
        return len(self.parts[0])

    def split(self, num_models: int) -> "tuple[CacheRows | JointRows, ...]":
        """Return the handle of each model."""
        assert num_models == len(self.parts)
        return self.parts

    def take(self, indices: Int[Tensor, " M"]) -> "JointRows":
        """Return what is cached of the particles `indices`."""
        return JointRows(tuple(part.take(indices) for part in self.parts))

    def keep(self, mask: Bool[Tensor, " N"]) -> "JointRows":
        """Forget what is cached of the other particles."""
        return JointRows(tuple(part.keep(mask) for part in self.parts))

    def given_up(self) -> "JointRows":
        """Return the rows, donated to their last consumer."""
        return JointRows(tuple(part.given_up() for part in self.parts))


Memory = CacheRows | JointRows


def join_memories(parts: list[Memory]) -> Memory:
    """Return what is cached of the particles of all `parts`, in order.

    Parts of one model have rows, those of several models have several; with nothing cached, both
    are the same.
    """
    joint = next((part for part in parts if isinstance(part, JointRows)), None)
    if joint is None:
        return join([part for part in parts if isinstance(part, CacheRows)])
    columns = zip(*(part.split(len(joint.parts)) for part in parts), strict=True)
    return JointRows(tuple(join_memories(list(column)) for column in columns))


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
    return CacheRows(cache, rows, lengths, all(part.is_given_up for part in holders))


def _in_one_cache(parts: list[CacheRows]) -> list[CacheRows]:
    """Copy what the parts need into a new cache that they share."""
    holders = [part.present.nonzero().squeeze(1) for part in parts]
    pairs = zip(parts, holders, strict=True)
    shared = concatenate([part.copy(held) for part, held in pairs if len(held)])
    moved, start = [], 0
    for part, held in zip(parts, holders, strict=True):
        rows = torch.full((len(part),), -1)
        rows[held] = torch.arange(start, start + len(held))
        start += len(held)
        moved.append(CacheRows(shared, rows, part.lengths))
    return moved
