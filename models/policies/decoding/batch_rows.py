"""The rows of a batch, of which each belongs to a request, and those that wait behind them.

All lie in one cache. Those in front take part in the forward passes; those of particles that have
stopped, and will go on later, wait behind them, so that nothing is copied out.

Shapes: R rows in front, C rows in all, P slots of particles.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from llmsmc.models.caches.row_cache import RowCache, gather
from llmsmc.models.policies.decoding.particle_slots import FREE, ParticleSlots
from llmsmc.models.policies.decoding.requests import Rows
from llmsmc.models.text.stopping import STOP


class BatchRows:
    """The cache of a batch; the slots of its particles say who stands in which row.

    Attributes:
        cache: of the batch.
    """

    def __init__(self, slots: ParticleSlots, device: torch.device) -> None:
        """Make an empty batch."""
        self._slots, self._device = slots, device
        self._clear()

    def _clear(self) -> None:
        self.cache = RowCache(0, device=self._device)
        self._owners = torch.zeros(0, dtype=torch.long, device=self._device)
        self._num_front = 0

    def __len__(self) -> int:
        """Return R."""
        return self._num_front

    @property
    def owners(self) -> Int[Tensor, " R"]:
        """The request of each row in front."""
        return self._owners[: len(self)]

    def join(self, parts: Sequence[Rows], owner: int, num_particles: int) -> Int[Tensor, " M"]:
        """Put rows for the particles of a request in front; return where each of them is.

        An empty batch takes over the buffers of a cache that is given up, as it is.
        """
        max_rows, places = self._max_rows + num_particles, list[Tensor]()
        for part in parts:
            if part.is_given_up and not self.cache.num_rows:
                self.cache = part.cache.moved_out()
                places.append(self.cache.hold(part.rows, part.lengths))
                continue
            start = self.cache.num_rows
            self.cache.append(part.cache, part.rows, part.lengths, max_rows)
            places.append(torch.arange(start, self.cache.num_rows, device=self._device))
        new = torch.cat(places)
        return self._put_in_front(new, torch.full_like(new, owner))

    def fork(self, parents: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
        """Put copies of these rows in front; return where each of them is."""
        start = self.cache.num_rows
        self.cache.fork(parents, self._max_rows)
        new = torch.arange(start, self.cache.num_rows, device=self._device)
        return self._put_in_front(new, self._owners[parents])

    def release(self, gone: Sequence[int]) -> None:
        """Forget all rows of these requests, whose slots are free already."""
        staying = ~torch.isin(self._owners, torch.tensor(gone, device=self._device))
        rows = staying.nonzero().squeeze(1)
        self._keep(rows[rows < len(self)], rows)

    def wipe(self, owner: int) -> None:
        """Put zeros into the rows of a request."""
        self.cache.wipe((self._owners == owner).nonzero().squeeze(1))

    def set_aside(self, active: Int[Tensor, " M"]) -> Int[Tensor, " C"]:
        """Leave only these rows in front.

        Behind them wait those of particles that have stopped and will go on later; the others are
        forgotten.

        Returns:
            Where each row of the batch is now; -1 for those that are gone.
        """
        slots = self._slots
        waiting = slots.row[(slots.owner != FREE) & (slots.reason == STOP)]
        return self._keep(active, torch.unique(torch.cat([active, waiting])))

    def given_to(self, going_on: Int[Tensor, " K"]) -> tuple[RowCache, Int[Tensor, " K"]]:
        """Return a cache with the rows of these particles, and the row of each of them.

        The cache in which there is nothing of others is given away as it is.
        """
        rows, which = torch.unique(self._slots.row[going_on], return_inverse=True)
        if bool((self._owners != self._owners[rows[0]]).any()):
            return gather([(self.cache, rows)]), which.cpu()
        places, cache = self.cache.keep(rows), self.cache
        self._clear()
        return cache, places[rows][which].cpu()

    @property
    def _max_rows(self) -> int:
        """How many rows there can be: one for each particle."""
        return int((self._slots.owner != FREE).sum())

    def _put_in_front(self, new: Int[Tensor, " M"], owners: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
        """Move new rows, which stand behind all others, in front of those that wait."""
        num_front = self._num_front + len(new)
        self._owners = torch.cat([self._owners, torch.zeros_like(owners)])
        self._owners[new] = owners
        if num_front < self.cache.num_rows:
            front = torch.arange(self._num_front, device=self._device)
            new = self._moved(self.cache.put_in_front(torch.cat([front, new])))[new]
        self._num_front = num_front
        return new

    def _keep(self, front: Int[Tensor, " M"], rows: Int[Tensor, " L"]) -> Int[Tensor, " C"]:
        """Forget all but `rows`, in ascending order, and leave `front` of them in front."""
        places = self.cache.keep(rows)
        if len(rows) < len(places):
            self._moved(places)
        self._num_front = len(front)
        if len(front) < len(rows):
            then = self._moved(self.cache.put_in_front(places[front]))
            places = torch.where(places < 0, -1, then[places])
        return places

    def _moved(self, places: Int[Tensor, " C"]) -> Int[Tensor, " C"]:
        """Take note of where each row is now."""
        staying = places >= 0
        owners = self._owners.new_zeros(self.cache.num_rows)
        owners[places[staying]] = self._owners[staying]
        self._owners = owners
        taken = (self._slots.owner != FREE).nonzero().squeeze(1)
        self._slots.row[taken] = places[self._slots.row[taken]]
        return places
