"""Keys and values of one attention layer, in which every row has its own length.

Shapes: B rows, q new tokens, H key-value heads, C capacity, D width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

BLOCK: Final = 64  # capacities grow by multiples of this many tokens
MANY: Final = 2**62  # rows: no limit


@dataclass(frozen=True, eq=False)
class Slots:
    """Where the q new tokens of each of B rows are written, and what each of them attends to."""

    rows: Int[Tensor, "B 1"]
    position_ids: Int[Tensor, "B q"]
    attention_mask: Bool[Tensor, "B 1 q extent"]

    @property
    def extent(self) -> int:
        """Number of cached positions that the longest row can attend to."""
        return int(self.attention_mask.shape[-1])


class RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values, [B, H, C, D], with rows and positions to spare behind those in use.

    What is not in use holds numbers all the same: a masked position has weight 0, and 0 times NaN
    would be NaN.
    """

    is_croppable = True
    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        """Make a layer that holds nothing yet."""
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def gathered(cls, parts: Sequence[tuple["RowLayer", Tensor, int]], capacity: int) -> "RowLayer":
        """Return a new layer with rows of several, in order.

        Args:
            parts: for each layer its rows, and how many of their positions are copied.
            capacity: of the new layer, at least the largest of these numbers.
        """
        layer = cls()
        filled = [part for part in parts if part[0].is_initialized]
        if filled:
            layer._initialize(filled[0][0].keys, filled[0][0].values)
            num_rows = sum(len(rows) for _, rows, _ in parts)
            for name in ("keys", "values"):
                setattr(layer, name, _gathered(name, filled[0][0], parts, num_rows, capacity))
        return layer

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate empty buffers of the right kind when the first keys arrive."""
        self.initialize(len(key_states), key_states, value_states)

    def initialize(self, num_rows: int, keys: Tensor, values: Tensor) -> None:
        """Allocate empty buffers for so many rows of this kind."""
        self._initialize(keys, values)
        self.keys = keys.new_zeros((num_rows, keys.shape[1], 0, keys.shape[3]))
        self.values = values.new_zeros((num_rows, values.shape[1], 0, values.shape[3]))

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write what is new at the positions of `slots`; return all that may be seen."""
        slots: Slots = kwargs["slots"]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.write(slots.rows, slots.position_ids, key_states, value_states, slots.extent)
        num_rows = len(slots.rows)
        return self.keys[:num_rows, :, : slots.extent], self.values[:num_rows, :, : slots.extent]

    def write(
        self,
        rows: Int[Tensor, "M 1"],
        places: Int[Tensor, "M q"],
        keys: Float[Tensor, "M H q D"],
        values: Float[Tensor, "M H q D"],
        extent: int,
    ) -> None:
        """Write new keys and values of some rows at these places, all below `extent`."""
        if extent > self.keys.shape[2]:
            self.reserve(round_up(extent))
        # The layers of a model may lie on several devices.
        rows, places = rows.to(self.device), places.to(self.device)
        self.keys[rows, :, places] = keys.transpose(1, 2)
        self.values[rows, :, places] = values.transpose(1, 2)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens a row."""
        current = self.keys.shape[2]
        if capacity > current:
            extra = (0, 0, 0, capacity - current)
            self.keys = torch.nn.functional.pad(self.keys, extra)
            self.values = torch.nn.functional.pad(self.values, extra)

    def append(
        self,
        num_rows: int,
        source: "RowLayer",
        rows: Tensor,
        extent: int,
        max_rows: int = MANY,
    ) -> None:
        """Copy the first `extent` positions of rows of `source` behind the first `num_rows`.

        The number of rows doubles where they do not fit, up to `max_rows`, so that a new one costs
        no copy of the others.
        """
        if not source.is_initialized:
            return
        if not self.is_initialized:
            self.initialize(0, source.keys, source.values)
        if extent > self.keys.shape[2]:
            self.reserve(round_up(extent))
        needed, available = num_rows + len(rows), self.keys.shape[0]
        if needed > available:
            extra = (0, 0) * 3 + (0, max(needed, min(2 * num_rows, max_rows)) - available)
            self.keys = torch.nn.functional.pad(self.keys, extra)
            self.values = torch.nn.functional.pad(self.values, extra)
        for name in ("keys", "values"):
            target: Tensor = getattr(self, name)[num_rows:needed, :, :extent]
            held = getattr(source, name)[: num_rows if source is self else None, :, :extent]
            _copy_rows(held, rows, target)

    def move(self, sources: Tensor, targets: Tensor, extent: int) -> None:
        """Copy the first `extent` positions of the rows `sources` over those of `targets`."""
        if self.is_initialized:
            sources, targets = sources.to(self.device), targets.to(self.device)
            for buffer in (self.keys, self.values):
                seen = buffer[:, :, :extent]
                seen.index_copy_(0, targets, seen.index_select(0, sources))

    def swap(self, these: Tensor, those: Tensor, extent: int) -> None:
        """Exchange the first `extent` positions of the rows `these` with those of `those`."""
        if self.is_initialized:
            these, those = these.to(self.device), those.to(self.device)
            for buffer in (self.keys, self.values):
                seen = buffer[:, :, :extent]
                kept = seen.index_select(0, these)
                seen.index_copy_(0, these, seen.index_select(0, those))
                seen.index_copy_(0, those, kept)

    def wipe(self, rows: Tensor) -> None:
        """Put zeros into the rows, whatever they held."""
        if self.is_initialized:
            rows = rows.to(self.device)
            self.keys[rows], self.values[rows] = 0, 0

    def get_seq_length(self) -> int:
        """Capacity in use is known to the whole cache only; here, whether there is anything."""
        return self.keys.shape[2] if self.is_initialized else 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Not used: the mask is made by `RowCache.begin`."""
        raise NotImplementedError("A RowCache needs the attention mask of RowCache.begin.")

    def _initialize(self, keys: Tensor, values: Tensor) -> None:
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


def _gathered(
    name: str,
    like: RowLayer,
    parts: Sequence[tuple[RowLayer, Tensor, int]],
    num_rows: int,
    capacity: int,
) -> Tensor:
    template: Tensor = getattr(like, name)
    buffer = template.new_empty((num_rows, template.shape[1], capacity, template.shape[3]))
    start = 0
    for layer, rows, extent in parts:
        block = buffer[start : start + len(rows)]
        extent = extent if layer.is_initialized else 0
        if extent:
            _copy_rows(getattr(layer, name)[:, :, :extent], rows, block[:, :, :extent])
        block[:, :, extent:] = 0
        start += len(rows)
    return buffer


def _copy_rows(source: Tensor, rows: Tensor, target: Tensor) -> None:
    """Write the rows of `source` into `target`, which shares none of them, without a detour."""
    torch.index_select(source, 0, rows.to(source.device), out=target)


def round_up(capacity: int) -> int:
    """Return the next multiple of the block."""
    return -(-capacity // BLOCK) * BLOCK
