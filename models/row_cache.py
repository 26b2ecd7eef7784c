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

Buffers grow by half of their size, so that a token costs no copy of the cache; by `fork` the
number of rows doubles, so that a new one costs no copy of the others.

Shapes: B rows, q new tokens, H key-value heads, C capacity, D width of a head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

BLOCK: Final = 64  # capacities are multiples of this many tokens


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
    """Keys and values of one attention layer, [B, H, C, D], with unused rows and positions."""

    is_croppable = True
    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        """Make a layer that holds nothing yet."""
        super().__init__()  # type: ignore[no-untyped-call]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate empty buffers of the right kind when the first keys arrive."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states.new_zeros((*key_states.shape[:2], 0, key_states.shape[3]))
        self.values = value_states.new_zeros((*value_states.shape[:2], 0, value_states.shape[3]))
        self.is_initialized = True

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
            grown = _round_up(max(capacity, current + current // 2))
            self.keys = _padded(self.keys, grown)
            self.values = _padded(self.values, grown)

    def fork(self, parents: Tensor, num_rows: int, extent: int) -> None:
        """Copy the first `extent` positions of the rows `parents` behind the first `num_rows`."""
        if self.is_initialized:
            needed, available = num_rows + len(parents), self.keys.shape[0]
            if needed > available:
                extra = (0, 0) * 3 + (0, max(needed, 2 * num_rows) - available)
                self.keys = torch.nn.functional.pad(self.keys, extra)
                self.values = torch.nn.functional.pad(self.values, extra)
            parents = parents.to(self.device)
            self.keys[num_rows:needed, :, :extent] = self.keys[parents, :, :extent]
            self.values[num_rows:needed, :, :extent] = self.values[parents, :, :extent]

    def gathered(self, indices: Tensor, extent: int) -> "RowLayer":
        """A new layer with the rows `indices` and the first `extent` positions of this one."""
        layer = RowLayer()
        if self.is_initialized:
            layer.dtype, layer.device, layer.is_initialized = self.dtype, self.device, True
            capacity = _round_up(extent + BLOCK)
            layer.keys = _gathered(self.keys, indices, extent, capacity)
            layer.values = _gathered(self.values, indices, extent, capacity)
        return layer

    def get_seq_length(self) -> int:
        """Capacity in use is known to the whole cache only; here, whether there is anything."""
        return self.keys.shape[2] if self.is_initialized else 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Not used: the mask is made by `RowCache.begin`."""
        raise NotImplementedError("A RowCache needs the attention mask of RowCache.begin.")


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
        indices = indices.to(self.lengths.device)
        selected = RowCache(0, device=self.lengths.device)
        selected.lengths = self.lengths[indices]
        extent = selected.get_seq_length()
        selected.layers = [layer.gathered(indices, extent) for layer in self._row_layers()]
        return selected

    def fork(self, parents: Int[Tensor, " M"]) -> None:
        """Append copies of the rows `parents`; rows to spare make that cheap."""
        if len(parents):
            extent = self.get_seq_length()
            for layer in self._row_layers():
                layer.fork(parents, self.num_rows, extent)
            self.lengths = torch.cat([self.lengths, self.lengths[parents]])

    def reorder_cache(self, beam_idx: Int[Tensor, " M"]) -> None:
        """The same in place, layer by layer, under the name that transformers uses."""
        beam_idx = beam_idx.to(self.lengths.device)
        self.lengths = self.lengths[beam_idx]
        extent = self.get_seq_length()
        for index, layer in enumerate(self._row_layers()):
            self.layers[index] = layer.gathered(beam_idx, extent)

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


def concatenate(caches: Sequence[RowCache]) -> RowCache:
    """Return one cache with the rows of all `caches`, in order; a single cache as it is."""
    if len(caches) == 1:
        return caches[0]
    joined = RowCache(0, device=caches[0].lengths.device)
    joined.lengths = torch.cat([cache.lengths for cache in caches])
    capacity = _round_up(joined.get_seq_length() + BLOCK)
    num_layers = max(len(cache.layers) for cache in caches)
    joined.layers = [_joined(caches, index, capacity) for index in range(num_layers)]
    return joined


def _joined(caches: Sequence[RowCache], index: int, capacity: int) -> RowLayer:
    template = next(cache.layers[index] for cache in caches if len(cache.layers) > index)
    assert isinstance(template, RowLayer)
    layer = RowLayer()
    layer.dtype, layer.device, layer.is_initialized = template.dtype, template.device, True
    num_rows = sum(cache.num_rows for cache in caches)
    for name in ("keys", "values"):
        like: Tensor = getattr(template, name)
        buffer = like.new_zeros((num_rows, like.shape[1], capacity, like.shape[3]))
        start = 0
        for cache in caches:
            length = cache.get_seq_length()
            if length:
                part: Tensor = getattr(cache.layers[index], name)
                buffer[start : start + cache.num_rows, :, :length] = part[
                    : cache.num_rows, :, :length
                ]
            start += cache.num_rows
        setattr(layer, name, buffer)
    return layer


def _gathered(buffer: Tensor, indices: Tensor, extent: int, capacity: int) -> Tensor:
    _, heads, _, width = buffer.shape
    # Zeros, not empty memory: a masked position has weight 0, and 0 times NaN would be NaN.
    gathered = buffer.new_zeros((indices.shape[0], heads, capacity, width))
    indices = indices.to(buffer.device)
    gathered[:, :, :extent] = buffer[:, :, :extent].index_select(0, indices)
    return gathered


def _padded(buffer: Tensor, capacity: int) -> Tensor:
    padded = buffer.new_zeros((*buffer.shape[:2], capacity, buffer.shape[3]))
    padded[:, :, : buffer.shape[2]] = buffer
    return padded


def _round_up(capacity: int) -> int:
    return -(-capacity // BLOCK) * BLOCK
