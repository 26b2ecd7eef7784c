"""A key-value cache in which every row has its own length.

Particles grow by steps of different lengths, are duplicated and are dropped. The cache of row b
holds exactly the tokens of row b, at positions 0 .. lengths[b] - 1: no holes and no padding. What a
ragged batch must pad is written beyond the true length of its row and overwritten by what comes
next.

A forward pass over q new tokens a row is bracketed by `begin` and `commit`:

    slots = cache.begin(q)                        # where the tokens go and what they may attend to
    model(input_ids, position_ids=slots.position_ids, attention_mask=slots.attention_mask,
          past_key_values=cache, use_cache=True)
    cache.commit(counts)                          # how many of them each row keeps

Memory is what bounds the number of particles, so that nothing is held twice, but for one layer.
Buffers grow by a block of tokens: that copies the cache once in 64 tokens, each of which reads all
of it. By `append` and `fork` the number of rows doubles, up to what can be needed at most; `keep`
moves rows into the places of those that go, and `hold` copies rows only where they are needed
several times. Whoever has no more need of a cache hands its buffers on by `moved_out`.

Shapes: B rows, q new tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache

from llmsmc.models.caches.row_layer import BLOCK, MANY, RowLayer, Slots


class RowCache(Cache):
    """A transformers cache of B rows with one true length each; see the module's description."""

    lengths: Int[Tensor, " B"]

    def __init__(self, num_rows: int, *, device: torch.device | str = "cpu") -> None:
        """Make a cache of so many empty rows."""
        super().__init__(layer_class_to_replicate=RowLayer)
        self.lengths = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._slots: Slots | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows B."""
        return int(self.lengths.shape[0])

    @property
    def num_bytes(self) -> int:
        """Memory held by the buffers."""
        layers = [layer for layer in self._row_layers() if layer.is_initialized]
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    def begin(self, num_new: int, num_rows: int | None = None) -> Slots:
        """Announce a forward pass over `num_new` tokens of each row, or of the first `num_rows`."""
        self._slots = slots_behind(self.lengths[:num_rows], num_new)
        return self._slots

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by the attention layers during the forward pass."""
        if self._slots is None:
            raise RuntimeError("RowCache.begin was not called before the forward pass.")
        return super().update(key_states, value_states, layer_idx, slots=self._slots)

    def commit(self, counts: Int[Tensor, " B"] | int) -> None:
        """Keep the first `counts` of the new tokens of each row; the others will be overwritten."""
        assert self._slots is not None
        num_rows = len(self._slots.rows)
        self.lengths = torch.cat([self.lengths[:num_rows] + counts, self.lengths[num_rows:]])
        self._slots = None

    def truncate(self, lengths: Int[Tensor, " B"] | int) -> None:
        """Forget all but the first `lengths` tokens of each row."""
        self.lengths = torch.minimum(
            self.lengths, torch.as_tensor(lengths, device=self.lengths.device)
        )

    def select(self, indices: Int[Tensor, " M"]) -> "RowCache":
        """Return a new, independent cache of the rows `indices`; any order, repeats allowed."""
        return gather([(self, indices)], room=BLOCK)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens a row."""
        for layer in self._row_layers():
            if layer.is_initialized:
                layer.reserve(capacity)

    def moved_out(self) -> "RowCache":
        """Return a cache with the buffers of this one, in which no row is left."""
        new = RowCache(0, device=self.lengths.device)
        new.layers, new.lengths = self.layers, self.lengths.clone()
        self.layers, self.lengths = [], self.lengths[:0]
        return new

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
        start = self.num_rows
        self.fork(places[again], max_rows=len(rows))
        places[again] = torch.arange(start, self.num_rows, device=places.device)
        self.lengths[places] = lengths
        return places

    def append(
        self,
        source: "RowCache",
        rows: Int[Tensor, " M"],
        lengths: Int[Tensor, " M"],
        max_rows: int = MANY,
    ) -> None:
        """Append copies of the first `lengths` tokens of rows of another cache.

        There will never be more than `max_rows`, so that there need not be room for them.
        """
        if len(rows):
            rows, lengths = rows.to(self.lengths.device), lengths.to(self.lengths.device)
            extent = int(lengths.max())
            self.layers += [RowLayer() for _ in source.layers[len(self.layers) :]]
            for mine, theirs in zip(self._row_layers(), source._row_layers(), strict=False):
                mine.append(self.num_rows, theirs, rows, extent, max_rows)
            self.lengths = torch.cat([self.lengths, lengths])

    def fork(self, parents: Int[Tensor, " M"], max_rows: int = MANY) -> None:
        """Append copies of the rows `parents`; see `append`."""
        if len(parents):
            self.append(self, parents, self.lengths[parents], max_rows)

    def put_in_front(self, rows: Int[Tensor, " M"]) -> Int[Tensor, " B"]:
        """Exchange rows, so that these are the first; return where each of the B rows is now."""
        places = torch.arange(self.num_rows, device=self.lengths.device)
        is_wanted = torch.zeros_like(places, dtype=torch.bool)
        is_wanted[rows] = True
        leaving = (~is_wanted[: len(rows)]).nonzero().squeeze(1)
        if len(leaving):
            coming = len(rows) + is_wanted[len(rows) :].nonzero().squeeze(1)
            extent = int(self.lengths.max())
            for layer in self._row_layers():
                layer.swap(leaving, coming, extent)
            places[leaving], places[coming] = coming, leaving
            self.lengths = torch.empty_like(self.lengths).scatter_(0, places, self.lengths)
        return places

    def keep(self, rows: Int[Tensor, " M"]) -> Int[Tensor, " B"]:
        """Forget the other rows, in whose places the last of those that stay are put.

        Args:
            rows: those that stay, each once, in ascending order.

        Returns:
            Where each of the B rows is now; -1 for those that are gone.
        """
        num_rows, num_kept = self.num_rows, len(rows)
        places = torch.full_like(self.lengths, -1)
        places[rows] = rows
        sources = rows[rows >= num_kept]
        if len(sources):
            targets = (places[:num_kept] < 0).nonzero().squeeze(1)
            extent = int(self.lengths[sources].max())
            for layer in self._row_layers():
                layer.move(sources, targets, extent)
            self.lengths[targets] = self.lengths[sources]
            places[sources] = targets
        if num_kept < num_rows:
            self.lengths = self.lengths[:num_kept]
        return places

    def wipe(self, rows: Int[Tensor, " M"]) -> None:
        """Put zeros into the rows, which may hold what is no number."""
        for layer in self._row_layers():
            layer.wipe(rows)

    def reorder_cache(self, beam_idx: Int[Tensor, " M"]) -> None:
        """Select rows in place, under the name that transformers uses."""
        selected = self.select(beam_idx)
        self.layers, self.lengths = selected.layers, selected.lengths

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` tokens of every row."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes a count below zero. Got {tokens_to_remove}.")
        self.lengths = (self.lengths + tokens_to_remove).clamp(min=0)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Length of the longest row."""
        return int(self.lengths.max()) if self.num_rows else 0

    def layer(self, index: int) -> RowLayer:
        """Return a layer, which holds nothing yet if the model has not come to it."""
        self.layers += [RowLayer() for _ in range(len(self.layers), index + 1)]
        layer = self.layers[index]
        assert isinstance(layer, RowLayer)
        return layer

    def _row_layers(self) -> Iterator[RowLayer]:
        for layer in self.layers:
            assert isinstance(layer, RowLayer)
            yield layer


def slots_behind(lengths: Int[Tensor, " B"], num_new: int) -> Slots:
    """Return the slots of `num_new` tokens a row behind rows of these lengths."""
    device, longest = lengths.device, int(lengths.max()) if len(lengths) else 0
    rows = torch.arange(len(lengths), device=device)[:, None]
    positions = lengths[:, None] + torch.arange(num_new, device=device)
    visible = torch.arange(longest + num_new, device=device) <= positions[:, :, None]
    return Slots(rows, positions, visible[:, None])


def gather(parts: Sequence[tuple[RowCache, Int[Tensor, " _"]]], room: int = 0) -> RowCache:
    """Return a new cache with rows of several, in order.

    Args:
        parts: the caches, and which of their rows; any order, repeats allowed.
        room: for how many more tokens a row there is to be room at first.
    """
    device = parts[0][0].lengths.device
    parts = [(cache, rows.to(device)) for cache, rows in parts]
    lengths = [cache.lengths[rows] for cache, rows in parts]
    extents = [int(each.max()) if len(each) else 0 for each in lengths]
    gathered = RowCache(0, device=device)
    gathered.lengths = torch.cat(lengths)
    nothing = RowLayer()
    for index in range(max(len(cache.layers) for cache, _ in parts)):
        of_layer = []
        for (cache, rows), extent in zip(parts, extents, strict=True):
            layer = cache.layers[index] if index < len(cache.layers) else nothing
            assert isinstance(layer, RowLayer)
            of_layer.append((layer, rows, extent))
        gathered.layers.append(RowLayer.gathered(of_layer, max(extents) + room))
    return gathered


def concatenate(caches: Sequence[RowCache]) -> RowCache:
    """Return one cache with the rows of all `caches`, in order; a single cache as it is."""
    if len(caches) == 1:
        return caches[0]
    everything = [(cache, torch.arange(cache.num_rows)) for cache in caches]
    return gather(everything, room=BLOCK)
