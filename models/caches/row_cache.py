"""A key-value cache in which every row has its own length.

Particles grow by steps of different lengths, are duplicated and are dropped. The cache of row b
holds exactly the tokens of row b, at positions 0 .. lengths[b] - 1: no holes and no padding. What a
ragged batch must pad is written beyond the true length of its row and overwritten by what comes
next.

A forward pass over q new tokens a row is bracketed by `prepare` and `commit`:

    slots = cache.prepare(q)                      # where the tokens go and what they may attend to
    model(input_ids, position_ids=slots.position_ids, attention_mask=slots.attention_mask,
          past_key_values=cache, use_cache=True)
    cache.commit(counts)                          # how many of them each row keeps

Memory is what bounds the number of particles, so that nothing is held twice, but for one layer.
Buffers grow by a block of tokens: that copies the cache once in 64 tokens, each of which reads all
of it. By `append` the number of rows doubles, up to what can be needed at most; `keep` moves rows
into the places of those that go, and `hold` copies rows only where they are needed several times.
Whoever has no more need of a cache hands its buffers on by `moved_out`. What moves rows says where
they are afterwards; their numbers have one owner at a time, who takes note of it.

Where all rows begin with the same tokens, these may be held once, as the cache's `beginning`; the
buffers then hold what stands behind it. Rows with different beginnings lie in one cache with whole
rows. Lengths and positions count from the first token in either case.

Shapes: B rows, q new tokens, H key-value heads, C capacity, D width of a head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import Cache

from llmsmc.models.caches.rows import TOKENS_PER_BLOCK, UNLIMITED


@dataclass(frozen=True, eq=False)
class Beginning:
    """Keys and values of the tokens with which all rows of a cache begin, held once.

    Attributes:
        length: how many tokens these are.
        buffers: the keys of layer n under 2n and its values under 2n + 1, [1, H, length, D].
    """

    length: int
    buffers: Mapping[int, Tensor]


@dataclass(frozen=True, eq=False)
class Slots:
    """Where the q new tokens of each of B rows are written, and what each of them attends to.

    Attributes:
        rows: the rows, each once.
        position_ids: the positions of the new tokens.
        attention_mask: which positions behind the beginning each of them attends to, besides all
            of the beginning.
        extent: the number of these positions that the longest row can attend to.
        places: where in the buffers the new tokens are.
    """

    rows: Int[Tensor, "B 1"]
    position_ids: Int[Tensor, "B q"]
    attention_mask: Bool[Tensor, "B 1 q extent"]
    extent: int
    places: Int[Tensor, "B q"]


class RowCache(Cache):
    """A transformers cache of B rows with one true length each; see the module's description.

    What is not in use holds numbers all the same: a masked position has weight 0, and 0 times NaN
    would be NaN.

    Attributes:
        num_rows: the number of rows B.
        lengths: how many tokens each row holds.
        buffers: the keys of layer n under 2n and its values under 2n + 1, [B, H, C, D], with rows
            and positions to spare behind those in use. Layers may lie on several devices.
        beginning: what all rows begin with, which is not in the buffers; None for nothing.
    """

    lengths: Int[Tensor, " B"]
    beginning: Beginning | None = None

    def __init__(self, num_rows: int, *, device: torch.device | str = "cpu") -> None:
        """Make a cache of so many empty rows."""
        super().__init__(layers=[])
        self.num_rows = num_rows
        self.lengths = torch.zeros(num_rows, dtype=torch.long, device=device)
        self.buffers = dict[int, Tensor]()
        self._slots: Slots | None = None

    @property
    def num_bytes(self) -> int:
        """Memory held by the buffers, without the beginning."""
        return sum(buffer.nbytes for buffer in self.buffers.values())

    @property
    def num_begun(self) -> int:
        """How many tokens of each row are those of the beginning."""
        return 0 if self.beginning is None else self.beginning.length

    def prepare(self, num_new: int, rows: Int[Tensor, " M"] | None = None) -> Slots:
        """Announce a forward pass over `num_new` tokens of each row, or of some of them."""
        if rows is None:
            rows = torch.arange(self.num_rows, device=self.lengths.device)
        lengths, num_begun = self.lengths[rows], self.num_begun
        extent = num_new + (self._extent(lengths) if len(lengths) else 0)
        positions = lengths[:, None] + torch.arange(num_new, device=lengths.device)
        places = positions - num_begun
        visible = torch.arange(extent, device=lengths.device) <= places[:, :, None]
        self._slots = Slots(rows[:, None], positions, visible[:, None], extent, places)
        return self._slots

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write what is new, and return all that may be seen; called by the attention layers."""
        slots = self._slots
        if slots is None:
            raise RuntimeError("RowCache.prepare was not called before the forward pass.")
        seen = list[Tensor]()
        for name, new in ((2 * layer_idx, key_states), (2 * layer_idx + 1, value_states)):
            buffer = self.buffers.get(name)
            if buffer is None:
                buffer = new.new_zeros((self.num_rows, new.shape[1], 0, new.shape[3]))
                self.buffers[name] = buffer
            if slots.extent > buffer.shape[2]:
                self.reserve(_in_blocks(slots.extent))
                buffer = self.buffers[name]
            rows, places = slots.rows.to(buffer.device), slots.places.to(buffer.device)
            buffer[rows, :, places] = new.transpose(1, 2)
            seen.append(buffer[: len(rows), :, : slots.extent])
        return seen[0], seen[1]

    def commit(self, counts: Int[Tensor, " B"]) -> None:
        """Keep the first `counts` of the new tokens of each row; the others will be overwritten."""
        assert self._slots is not None
        self.lengths = self.lengths.index_add(0, self._slots.rows[:, 0], counts)
        self._slots = None

    def truncate(self, lengths: Int[Tensor, " B"]) -> None:
        """Forget all but the first `lengths` tokens of each row."""
        self.lengths = torch.minimum(self.lengths, lengths.to(self.lengths.device))
        self._require_begun(self.lengths)

    def select(self, indices: Int[Tensor, " M"]) -> "RowCache":
        """Return a new, independent cache of the rows `indices`; any order, repeats allowed."""
        return RowCache.gathered([(self, indices)], room=TOKENS_PER_BLOCK)

    @staticmethod
    def gathered(
        parts: "Sequence[tuple[RowCache, Int[Tensor, ' _']]]", room: int = 0
    ) -> "RowCache":
        """Return a new cache with rows of several; see `llmsmc.models.caches.rows.gather`."""
        device = parts[0][0].lengths.device
        beginning = parts[0][0].beginning
        if any(cache.beginning is not beginning for cache, _ in parts):
            beginning = None
            parts = [cache._whole(rows.to(device)) for cache, rows in parts]
        parts = [(cache, rows.to(device)) for cache, rows in parts]
        lengths = [cache.lengths[rows] for cache, rows in parts]
        pairs = zip(parts, lengths, strict=True)
        extents = [cache._extent(each) if len(each) else 0 for (cache, _), each in pairs]
        gathered = RowCache(0, device=device)
        gathered.beginning = beginning
        gathered.lengths = torch.cat(lengths)
        gathered.num_rows = len(gathered.lengths)
        for name in {name: None for cache, _ in parts for name in cache.buffers}:
            pieces = [
                (cache.buffers.get(name), rows, extent)
                for (cache, rows), extent in zip(parts, extents, strict=True)
            ]
            gathered.buffers[name] = _side_by_side(pieces, max(extents) + room)
        return gathered

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens a row."""
        for name, buffer in self.buffers.items():
            if capacity > buffer.shape[2]:
                extra = (0, 0, 0, capacity - buffer.shape[2])
                self.buffers[name] = torch.nn.functional.pad(buffer, extra)

    def moved_out(self) -> "RowCache":
        """Return a cache with the buffers of this one, in which no row is left."""
        new = RowCache(0, device=self.lengths.device)
        new.num_rows, new.lengths, new.buffers = self.num_rows, self.lengths.clone(), self.buffers
        new.beginning = self.beginning
        self.num_rows, self.lengths, self.buffers = 0, self.lengths[:0], {}
        return new

    def as_beginning(self) -> "RowCache":
        """Return a cache of the only row of this one, all of which is a beginning.

        Copies of the row then share it.
        """
        length = int(self.lengths[0])
        new = RowCache(1, device=self.lengths.device)
        new.lengths = self.lengths.clone()
        held = {name: buffer[:1, :, :length] for name, buffer in self.buffers.items()}
        new.beginning = Beginning(length, {name: each.contiguous() for name, each in held.items()})
        new.buffers = {name: each[:, :, :0] for name, each in held.items()}
        return new

    def _extent(self, lengths: Int[Tensor, " M"]) -> int:
        """Return how many positions of the buffers the longest of rows of these lengths takes."""
        return max(0, int(lengths.max()) - self.num_begun)

    def _whole(self, rows: Int[Tensor, " M"]) -> "tuple[RowCache, Int[Tensor, ' M']]":
        """Return a cache without a beginning, and where in it these rows are."""
        if self.beginning is None:
            return self, rows
        new = RowCache(0, device=self.lengths.device)
        new.num_rows, new.lengths = len(rows), self.lengths[rows]
        extent = self._extent(new.lengths) if len(rows) else 0
        for name, buffer in self.buffers.items():
            own = buffer[:, :, :extent].index_select(0, rows.to(buffer.device))
            begun = self.beginning.buffers[name].expand(len(rows), -1, -1, -1)
            new.buffers[name] = torch.cat([begun, own], dim=2)
        return new, torch.arange(len(rows), device=self.lengths.device)

    def _make_whole(self) -> None:
        """Hold whole rows from now on."""
        new, _ = self._whole(torch.arange(self.num_rows, device=self.lengths.device))
        self.buffers, self.beginning = new.buffers, None

    def _require_begun(self, lengths: Int[Tensor, " M"]) -> None:
        """Hold whole rows if some are shorter than the beginning."""
        if self.beginning is not None and bool((lengths < self.beginning.length).any()):
            self._make_whole()

    def hold(self, rows: Int[Tensor, " M"], lengths: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
        """Hold the first `lengths` tokens of these rows, and nothing else.

        Args:
            rows: any order, repeats allowed.
            lengths: how much of each of them stays.

        Returns:
            Where each of them is now.
        """
        rows, lengths = rows.to(self.lengths.device), lengths.to(self.lengths.device)
        used, which = torch.unique(rows, return_inverse=True)
        places = self.keep(used)[used][which]
        # The first that asks for a row has it, the others have copies.
        order = which.argsort(stable=True)
        is_again = torch.zeros_like(rows, dtype=torch.bool)
        is_again[order] = which[order].diff(prepend=which.new_full((1,), -1)) == 0
        again = is_again.nonzero().squeeze(1)
        parents = places[again]
        places[again] = self.append(self, parents, self.lengths[parents], len(rows))
        self.lengths[places] = lengths
        self._require_begun(lengths)
        return places

    def append(
        self,
        source: "RowCache",
        rows: Int[Tensor, " M"],
        lengths: Int[Tensor, " M"],
        max_rows: int = UNLIMITED,
    ) -> Int[Tensor, " M"]:
        """Append copies of the first `lengths` tokens of rows of a cache; return where they are.

        The number of rows doubles where they do not fit, so that a new one costs no copy of the
        others; there will never be more than `max_rows`, so that there need not be room for them.
        """
        device, start, num_rows = self.lengths.device, self.num_rows, self.num_rows + len(rows)
        if len(rows):
            rows, lengths = rows.to(device), lengths.to(device)
            if not start and self.beginning is not source.beginning:
                self.beginning, self.buffers = source.beginning, {}
            self._require_begun(lengths)
            if source.beginning is not self.beginning:
                source, rows = source._whole(rows)
                self._make_whole()
            extent = self._extent(lengths)
            for name, theirs in source.buffers.items():
                buffer = self.buffers.get(name, theirs[:0, :, :0])
                more_rows, more = num_rows - buffer.shape[0], extent - buffer.shape[2]
                if more_rows > 0:
                    more_rows = max(num_rows, min(2 * start, max_rows)) - buffer.shape[0]
                if more > 0:
                    more = _in_blocks(extent) - buffer.shape[2]
                if more_rows > 0 or more > 0:
                    extra = (0, 0, 0, max(more, 0), 0, 0, 0, max(more_rows, 0))
                    buffer = self.buffers[name] = torch.nn.functional.pad(buffer, extra)
                held = buffer[:start] if source is self else theirs
                target = buffer[start:num_rows, :, :extent]
                torch.index_select(held[:, :, :extent], 0, rows.to(held.device), out=target)
            self.num_rows, self.lengths = num_rows, torch.cat([self.lengths, lengths])
        return torch.arange(start, num_rows, device=device)

    def put_in_front(self, rows: Int[Tensor, " M"]) -> Int[Tensor, " B"]:
        """Exchange rows, so that these are the first; return where each of the B rows is now."""
        places = torch.arange(self.num_rows, device=self.lengths.device)
        is_wanted = torch.zeros_like(places, dtype=torch.bool)
        is_wanted[rows] = True
        leaving = (~is_wanted[: len(rows)]).nonzero().squeeze(1)
        if len(leaving):
            coming = len(rows) + is_wanted[len(rows) :].nonzero().squeeze(1)
            extent = self._extent(self.lengths)
            both, exchanged = torch.cat([leaving, coming]), torch.cat([coming, leaving])
            for buffer in self.buffers.values():
                seen = buffer[:, :, :extent]
                moved = seen.index_select(0, exchanged.to(buffer.device))
                seen.index_copy_(0, both.to(buffer.device), moved)
            places[both] = exchanged
            self.lengths = torch.empty_like(self.lengths).scatter_(0, places, self.lengths)
        return places

    def keep(
        self, rows: Int[Tensor, " M"], front: Int[Tensor, " K"] | None = None
    ) -> Int[Tensor, " B"]:
        """Forget the other rows, in whose places the last of those that stay are put.

        Args:
            rows: those that stay, each once, in ascending order.
            front: those of them that are to be the first.

        Returns:
            Where each of the B rows is now; -1 for those that are gone.
        """
        num_rows, num_kept = self.num_rows, len(rows)
        places = torch.full_like(self.lengths, -1)
        places[rows] = rows
        sources = rows[rows >= num_kept]
        if len(sources):
            targets = (places[:num_kept] < 0).nonzero().squeeze(1)
            extent = self._extent(self.lengths[sources])
            for buffer in self.buffers.values():
                seen = buffer[:, :, :extent]
                moved = seen.index_select(0, sources.to(buffer.device))
                seen.index_copy_(0, targets.to(buffer.device), moved)
            self.lengths[targets] = self.lengths[sources]
            places[sources] = targets
        if num_kept < num_rows:
            self.num_rows, self.lengths = num_kept, self.lengths[:num_kept]
        if front is not None and len(front) < num_kept:
            then = self.put_in_front(places[front])
            places = torch.where(places < 0, -1, then[places])
        return places

    def wipe(self, rows: Int[Tensor, " M"]) -> None:
        """Put zeros into the rows, which may hold what is no number."""
        for buffer in self.buffers.values():
            buffer[rows.to(buffer.device)] = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the length of the longest row."""
        return int(self.lengths.max()) if self.num_rows else 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Refuse to say what a mask made by transformers would have to be like."""
        raise NotImplementedError("A RowCache needs the attention mask of RowCache.prepare.")


class RowSelection(Cache):
    """A transformers cache of M rows of other caches; used as a `RowCache` is.

    What is new is written where the rows are. The keys and values that a layer attends to lie side
    by side only while it is computed: beyond the caches, a pass needs those of one layer.
    """

    def __init__(self, parts: Sequence[tuple[RowCache, Int[Tensor, " _"]]]) -> None:
        """Take the rows of several caches, in order; each row once."""
        super().__init__(layers=[])
        self._parts = [(cache, rows.to(cache.lengths.device)) for cache, rows in parts]

    @property
    def lengths(self) -> Int[Tensor, " M"]:
        """The length of each row."""
        return torch.cat([cache.lengths[rows] for cache, rows in self._parts])

    def prepare(self, num_new: int) -> Slots:
        """Announce a forward pass over `num_new` tokens a row."""
        slots = [cache.prepare(num_new, rows) for cache, rows in self._parts]
        self._extents = [each.extent for each in slots]
        positions = torch.cat([each.position_ids for each in slots])
        device, extent = positions.device, max(self._extents)
        visible = torch.arange(extent, device=device) <= positions[:, :, None]
        rows = torch.arange(len(positions), device=device)[:, None]
        return Slots(rows, positions, visible[:, None], extent, positions)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write what is new, and return all that may be seen; called by the attention layers."""
        sizes = [len(rows) for _, rows in self._parts]
        keys, values = torch.split(key_states, sizes), torch.split(value_states, sizes)
        for (cache, _), new_keys, new_values in zip(self._parts, keys, values, strict=True):
            cache.update(new_keys, new_values, layer_idx)
        seen = list[Tensor]()
        for name in (2 * layer_idx, 2 * layer_idx + 1):
            pairs = zip(self._parts, self._extents, strict=True)
            parts = [(cache.buffers[name], rows, extent) for (cache, rows), extent in pairs]
            seen.append(_side_by_side(parts, max(self._extents)))
        return seen[0], seen[1]

    def commit(self, counts: Int[Tensor, " M"]) -> None:
        """Keep the first `counts` of the new tokens of each row; the others will be overwritten."""
        sizes = [len(rows) for _, rows in self._parts]
        for (cache, _), each in zip(self._parts, torch.split(counts, sizes), strict=True):
            cache.commit(each)


def _side_by_side(parts: Sequence[tuple[Tensor | None, Tensor, int]], capacity: int) -> Tensor:
    """Return a buffer with rows of several, and zeros behind the positions that are copied.

    Args:
        parts: for each buffer its rows, and how many of their positions are copied; a layer that
            has not been computed yet has none.
        capacity: of the new buffer, at least the largest of these numbers.
    """
    template = next(buffer for buffer, _, _ in parts if buffer is not None)
    num_rows, start = sum(len(rows) for _, rows, _ in parts), 0
    found = template.new_empty((num_rows, template.shape[1], capacity, template.shape[3]))
    for buffer, rows, extent in parts:
        block = found[start : start + len(rows)]
        held = 0 if buffer is None else extent
        if buffer is not None and held:
            rows = rows.to(buffer.device)
            torch.index_select(buffer[:, :, :held], 0, rows, out=block[:, :, :held])
        block[:, :, held:] = 0
        start += len(rows)
    return found


def _in_blocks(capacity: int) -> int:
    """Return the next multiple of the block."""
    return -(-capacity // TOKENS_PER_BLOCK) * TOKENS_PER_BLOCK
