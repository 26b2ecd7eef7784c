"""Rows of several caches in one forward pass; what is new is written where they are.

The keys and values that a layer attends to lie side by side only while it is computed: beyond the
caches, a pass needs those of one layer.

Shapes: M rows, q new tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache

from llmsmc.models.caches.row_cache import RowCache, slots_behind
from llmsmc.models.caches.row_layer import RowLayer, Slots


class RowSelection(Cache):
    """A transformers cache of M rows of other caches; used as a `RowCache` is."""

    def __init__(self, parts: Sequence[tuple[RowCache, Int[Tensor, " _"]]]) -> None:
        """Take the rows of several caches, in order; each row once."""
        super().__init__(layer_class_to_replicate=RowLayer)
        self._parts = [(cache, rows.to(cache.lengths.device)) for cache, rows in parts]
        self._slots: Slots | None = None

    @property
    def lengths(self) -> Int[Tensor, " M"]:
        """The length of each row."""
        return torch.cat([cache.lengths[rows] for cache, rows in self._parts])

    def begin(self, num_new: int) -> Slots:
        """Announce a forward pass over `num_new` tokens a row."""
        self._slots = slots_behind(self.lengths, num_new)
        return self._slots

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by the attention layers during the forward pass."""
        if self._slots is None:
            raise RuntimeError("RowSelection.begin was not called before the forward pass.")
        seen, start = list[tuple[RowLayer, Tensor, int]](), 0
        for cache, rows in self._parts:
            layer, block = cache.layer(layer_idx), slice(start, start + len(rows))
            keys, values = key_states[block], value_states[block]
            if not layer.is_initialized:
                layer.initialize(cache.num_rows, keys, values)
            places = self._slots.position_ids[block]
            extent = int(places.max()) + 1
            layer.write(rows[:, None], places, keys, values, extent)
            seen.append((layer, rows, extent))
            start += len(rows)
        side_by_side = RowLayer.gathered(seen, self._slots.extent)
        return side_by_side.keys, side_by_side.values

    def commit(self, counts: Int[Tensor, " M"]) -> None:
        """Keep the first `counts` of the new tokens of each row; the others will be overwritten."""
        self._slots, start = None, 0
        for cache, rows in self._parts:
            lengths = cache.lengths.clone()
            lengths[rows] += counts[start : start + len(rows)]
            cache.lengths = lengths
            start += len(rows)
