"""The rows of a batch, of which each belongs to a request, and those that wait beside it.

Shapes: R rows, P slots of particles.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from llmsmc.models.loop_members import Rows
from llmsmc.models.particle_slots import FREE, IN_BATCH, ParticleSlots
from llmsmc.models.row_cache import RowCache, gather
from llmsmc.models.stopping import STOP


class BatchRows:
    """The cache of a batch; the slots of its particles say who stands in which row.

    Attributes:
        cache: of the batch.
        owners: the request of each row.
    """

    owners: Int[Tensor, " R"]

    def __init__(self, slots: ParticleSlots, device: torch.device) -> None:
        """Make an empty batch."""
        self.cache = RowCache(0, device=device)
        self.owners = torch.zeros(0, dtype=torch.long, device=device)
        self._slots, self._device = slots, device
        # Rows that were set aside, by the number of their piece.
        self._aside: dict[int, RowCache] = {}
        self._num_pieces = 0

    def __len__(self) -> int:
        """Return R."""
        return self.cache.num_rows

    def join(self, parts: Sequence[Rows], owner: int) -> None:
        """Append copies of rows for a request."""
        before = len(self)
        for cache, rows, lengths in parts:
            self.cache.append(cache, rows, lengths)
        self._extend(self.owners.new_full((len(self) - before,), owner))

    def fork(self, parents: Int[Tensor, " M"]) -> None:
        """Append copies of these rows."""
        if len(parents):
            self.cache.fork(parents)
            self._extend(self.owners[parents])

    def release(self, gone: Sequence[int]) -> None:
        """Forget all rows of these requests, whose slots are free already."""
        staying = ~torch.isin(self.owners, torch.tensor(gone, device=self._device))
        self.keep(staying.nonzero().squeeze(1))
        if self._aside:
            needed = set(self._slots.piece[self._slots.owner != FREE].tolist())
            self._aside = {n: cache for n, cache in self._aside.items() if n in needed}

    def wipe(self, owner: int) -> None:
        """Put zeros into the rows of a request."""
        self.cache.wipe((self.owners == owner).nonzero().squeeze(1))

    def _extend(self, owners: Int[Tensor, " M"]) -> None:
        self.owners = torch.cat([self.owners, owners])

    def keep(self, rows: Int[Tensor, " M"]) -> Int[Tensor, " R"]:
        """Forget the other rows of the batch; return where each row is now."""
        places = self.cache.keep(rows)
        if len(rows) == len(places):
            return places
        owners = self.owners[rows]
        self.owners = torch.empty_like(owners)
        self.owners[places[rows]] = owners
        slots = self._slots
        here = ((slots.owner != FREE) & (slots.piece == IN_BATCH)).nonzero().squeeze(1)
        slots.row[here] = places[slots.row[here]]
        return places

    def set_aside(self) -> None:
        """Keep the rows of those particles that have stopped and will go on later."""
        slots = self._slots
        waiting = (slots.owner != FREE) & (slots.reason == STOP) & (slots.piece == IN_BATCH)
        particles = waiting.nonzero().squeeze(1)
        if len(particles):
            rows, which = torch.unique(slots.row[particles], return_inverse=True)
            self._num_pieces += 1
            self._aside[self._num_pieces] = gather([(self.cache, rows)])
            slots.row[particles], slots.piece[particles] = which, self._num_pieces

    def given_to(self, going_on: Int[Tensor, " K"]) -> tuple[RowCache, Int[Tensor, " K"]]:
        """Return a cache with the rows of these particles, and the row of each of them.

        A cache in which there is nothing else is given away as it is.
        """
        slots, parts, num_rows = self._slots, list[tuple[RowCache, Tensor]](), 0
        places = torch.zeros_like(going_on)
        for piece in sorted(set(slots.piece[going_on].tolist())):
            cache = self.cache if piece == IN_BATCH else self._aside[piece]
            those = slots.piece[going_on] == piece
            rows, which = torch.unique(slots.row[going_on[those]], return_inverse=True)
            places[those] = num_rows + which
            parts.append((cache, rows))
            num_rows += len(rows)
        cache, rows = parts[0]
        if len(parts) > 1 or len(rows) < cache.num_rows:
            cache = gather(parts)
        elif cache is self.cache:
            self.cache = RowCache(0, device=self._device)
            self.owners = self.owners[:0]
        return cache, places.cpu()
