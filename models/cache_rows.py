"""Which row of a shared cache belongs to which particle."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmsmc.models.row_cache import RowCache, concatenate


@dataclass(frozen=True, eq=False)
class CacheRows:
    """For each of N particles a row of `cache`, or -1 for none, and how much of it is theirs.

    The cache is shared by all populations that descend from one another and never written to
    again: resampling gathers row numbers only, and whoever extends particles takes a copy of the
    rows it needs, in one gather.

    Attributes:
        cache: the shared cache; None if no particle has a row.
        rows: the row of each particle, or -1.
        lengths: how many tokens of its row are the particle's.
    """

    cache: RowCache | None
    rows: Int[Tensor, " N"]
    lengths: Int[Tensor, " N"]

    @classmethod
    def none(cls, num_particles: int) -> "CacheRows":
        """Return the rows of particles of which nothing is cached."""
        zeros = torch.zeros(num_particles, dtype=torch.long)
        return cls(None, zeros - 1, zeros)

    @classmethod
    def of(cls, cache: RowCache | None, owners: Int[Tensor, " B"], num: int) -> "CacheRows":
        """Return the rows of `num` particles of which `owners` have the rows of `cache`, in order.

        The cache belongs to the result from now on.
        """
        nothing = cls.none(num)
        if cache is None or not len(owners):
            return nothing
        rows, lengths = nothing.rows.clone(), nothing.lengths.clone()
        rows[owners] = torch.arange(len(owners))
        lengths[owners] = cache.lengths.cpu()
        return cls(cache, rows, lengths)

    def __len__(self) -> int:
        """Return N."""
        return len(self.rows)

    @property
    def present(self) -> Bool[Tensor, " N"]:
        """Which particles have a row."""
        return self.rows >= 0

    def take(self, indices: Int[Tensor, " M"]) -> "CacheRows":
        """Return the rows of the particles `indices`."""
        return CacheRows(self.cache, self.rows[indices], self.lengths[indices])

    def keep(self, mask: Bool[Tensor, " N"]) -> "CacheRows":
        """Forget the rows of the other particles, and the cache if no row is left."""
        rows = torch.where(mask, self.rows, -1)
        return CacheRows(self.cache if bool((rows >= 0).any()) else None, rows, self.lengths)

    def truncate(self, lengths: Int[Tensor, " N"]) -> "CacheRows":
        """Forget all but the first `lengths` tokens of each particle; nothing is copied."""
        return replace(self, lengths=torch.minimum(self.lengths, lengths))

    def copy(self, indices: Int[Tensor, " M"]) -> RowCache:
        """Return an independent cache with the rows of the particles `indices`, which have one."""
        assert self.cache is not None
        copied = self.cache.select(self.rows[indices])
        copied.truncate(self.lengths[indices].to(copied.lengths.device))
        return copied


def join(parts: list[CacheRows]) -> CacheRows:
    """Return the rows of the particles of all `parts`, in order.

    Only when rows of different caches are needed are these copied into one.
    """
    caches = {id(part.cache): part.cache for part in parts if bool(part.present.any())}
    if len(caches) > 1:
        parts = _in_one_cache(parts)
        caches = {0: parts[0].cache}
    rows = torch.cat([part.rows for part in parts])
    lengths = torch.cat([part.lengths for part in parts])
    return CacheRows(next(iter(caches.values()), None), rows, lengths)


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
