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

Buffers grow by half of their size, so that a token costs no copy of the cache; by `append` and
`fork` the number of rows doubles, so that a new one costs no copy of the others; and `keep` moves
rows into the places of those that go, so that these cost no copy of the others either.

Shapes: B rows, q new tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache

from llmsmc.models.row_layer import BLOCK, RowLayer, Slots


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

    def begin(self, num_new: int) -> Slots:
        """Announce a forward pass over `num_new` tokens a row."""
        device, extent = self.lengths.device, self.get_seq_length() + num_new
        rows = torch.arange(self.num_rows, device=device)[:, None]
        positions = self.lengths[:, None] + torch.arange(num_new, device=device)
        visible = torch.arange(extent, device=device) <= positions[:, :, None]
        self._slots = Slots(rows, positions, visible[:, None])
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
        self.lengths = self.lengths + counts
        self._slots = None

    def truncate(self, lengths: Int[Tensor, " B"] | int) -> None:
        """Forget all but the first `lengths` tokens of each row."""
        self.lengths = torch.minimum(
            self.lengths, torch.as_tensor(lengths, device=self.lengths.device)
        )

    def select(self, indices: Int[Tensor, " M"]) -> "RowCache":
        """Return a new, independent cache of the rows `indices`; any order, repeats allowed."""
        return gather([(self, indices)], room=BLOCK)

    def append(
        self, source: "RowCache", rows: Int[Tensor, " M"], lengths: Int[Tensor, " M"]
    ) -> None:
        """Append copies of the first `lengths` tokens of rows of another cache."""
        if len(rows):
            rows, lengths = rows.to(self.lengths.device), lengths.to(self.lengths.device)
            extent = int(lengths.max())
            self.layers += [RowLayer() for _ in source.layers[len(self.layers) :]]
            for mine, theirs in zip(self._row_layers(), source._row_layers(), strict=False):
                mine.append(self.num_rows, theirs, rows, extent)
            self.lengths = torch.cat([self.lengths, lengths])

    def fork(self, parents: Int[Tensor, " M"]) -> None:
        """Append copies of the rows `parents`."""
        if len(parents):
            self.append(self, parents, self.lengths[parents])

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

    def _row_layers(self) -> Iterator[RowLayer]:
        for layer in self.layers:
            assert isinstance(layer, RowLayer)
            yield layer


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
