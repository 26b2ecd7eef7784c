"""Keys and values of one attention layer, in which every row has its own length.

Shapes: B rows, q new tokens, H key-value heads, C capacity, D width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

BLOCK: Final = 64  # capacities grow by multiples of this many tokens


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
        self._initialize(key_states, value_states)
        self.keys = key_states.new_zeros((*key_states.shape[:2], 0, key_states.shape[3]))
        self.values = value_states.new_zeros((*value_states.shape[:2], 0, value_states.shape[3]))

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write what is new at the positions of `slots`; return all that may be seen."""
        slots: Slots = kwargs["slots"]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.reserve(slots.extent)
        # The layers of a model may lie on several devices.
        rows, places = slots.rows.to(self.device), slots.position_ids.to(self.device)
        self.keys[rows, :, places] = key_states.transpose(1, 2)
        self.values[rows, :, places] = value_states.transpose(1, 2)
        num_rows = len(slots.rows)
        return self.keys[:num_rows, :, : slots.extent], self.values[:num_rows, :, : slots.extent]

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` tokens a row."""
        current = self.keys.shape[2]
        if capacity > current:
            grown = round_up(max(capacity, current + current // 2))
            self.keys = torch.nn.functional.pad(self.keys, (0, 0, 0, grown - current))
            self.values = torch.nn.functional.pad(self.values, (0, 0, 0, grown - current))

    def append(self, num_rows: int, source: "RowLayer", rows: Tensor, extent: int) -> None:
        """Copy the first `extent` positions of rows of `source` behind the first `num_rows`.

        The number of rows doubles where they do not fit, so that a new one costs no copy of the
        others.
        """
        if not source.is_initialized:
            return
        if not self.is_initialized:
            self.lazy_initialization(source.keys, source.values)
            self.keys, self.values = self.keys[:0], self.values[:0]
        self.reserve(extent)
        needed, available = num_rows + len(rows), self.keys.shape[0]
        if needed > available:
            extra = (0, 0) * 3 + (0, max(needed, 2 * num_rows) - available)
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
