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
of it. By `append` and `fork` the number of rows doubles, up to what can be needed at most; `keep`
moves rows into the places of those that go, and `hold` copies rows only where they are needed
several times. Whoever has no more need of a cache hands its buffers on by `moved_out`.

Shapes: B rows, q new tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache
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
        """Not used: the mask is made by `RowCache.prepare`."""
        raise NotImplementedError("A RowCache needs the attention mask of RowCache.prepare.")

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

    def prepare(self, num_new: int, num_rows: int | None = None) -> Slots:
        """Announce a forward pass over `num_new` tokens of each row, or of the first `num_rows`."""
        self._slots = slots_behind(self.lengths[:num_rows], num_new)
        return self._slots

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by the attention layers during the forward pass."""
        if self._slots is None:
            raise RuntimeError("RowCache.prepare was not called before the forward pass.")
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

    def prepare(self, num_new: int) -> Slots:
        """Announce a forward pass over `num_new` tokens a row."""
        self._slots = slots_behind(self.lengths, num_new)
        return self._slots

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by the attention layers during the forward pass."""
        if self._slots is None:
            raise RuntimeError("RowSelection.prepare was not called before the forward pass.")
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


@dataclass(frozen=True, eq=False)
class CacheRows:
    """For each of N particles a row of `cache`, or -1 for none, and how much of it is theirs.

    All populations that descend from one another share the cache, and it is never written to again.
    Resampling gathers row numbers only; extending particles copies the rows that are needed, in one
    gather.

    If the cache is donated, the consumer may take the buffers over instead of copying rows. Other
    handles then report no rows, and their models recompute what was cached.

    Attributes:
        cache: the shared cache; None if no particle has a row.
        rows: the row of each particle, or -1.
        lengths: how many tokens of its row are the particle's.
        is_given_up: whether the cache is donated: only the consumer of these rows needs it again.
    """

    cache: RowCache | None
    rows: Int[Tensor, " N"]
    lengths: Int[Tensor, " N"]
    is_given_up: bool = False

    @classmethod
    def none(cls, num_particles: int) -> "CacheRows":
        """Return the rows of N particles without cached tokens."""
        zeros = torch.zeros(num_particles, dtype=torch.long)
        return cls(None, zeros - 1, zeros)

    def __len__(self) -> int:
        """Return N."""
        return len(self.rows)

    @property
    def present(self) -> Bool[Tensor, " N"]:
        """Which particles have a row: none, if the buffers have been moved out of the cache."""
        num_rows = 0 if self.cache is None else self.cache.num_rows
        return (self.rows >= 0) & (num_rows > 0)

    def split(self, num_models: int) -> "tuple[CacheRows, ...]":
        """Return a handle for each of `num_models` models, with nothing cached."""
        return (CacheRows.none(len(self)),) * num_models

    def take(self, indices: Int[Tensor, " M"]) -> "CacheRows":
        """Return the rows of the particles `indices`."""
        return replace(self, rows=self.rows[indices], lengths=self.lengths[indices])

    def keep(self, mask: Bool[Tensor, " N"]) -> "CacheRows":
        """Forget the rows of the other particles, and the cache if no row is left."""
        kept = replace(self, rows=torch.where(mask, self.rows, -1))
        return kept if bool(kept.present.any()) else replace(kept, cache=None)

    def given_up(self) -> "CacheRows":
        """Return the rows, donated to their last consumer."""
        return replace(self, is_given_up=True)

    def truncate(self, lengths: Int[Tensor, " N"]) -> "CacheRows":
        """Forget all but the first `lengths` tokens of each particle; nothing is copied."""
        return replace(self, lengths=torch.minimum(self.lengths, lengths))

    def own(self) -> "CacheRows":
        """Return the rows in a cache of their own, if this cache has other rows as well."""
        if self.cache is None:
            return self
        rows, which = torch.unique(self.rows[self.present], return_inverse=True)
        if len(rows) == self.cache.num_rows:
            return self
        moved = self.rows.masked_scatter(self.present, which)
        return CacheRows(gather([(self.cache, rows)]), moved, self.lengths)

    def copy(self, indices: Int[Tensor, " M"]) -> RowCache:
        """Return an independent cache with the rows of the particles `indices`, which have one."""
        assert self.cache is not None
        copied = self.cache.select(self.rows[indices])
        copied.truncate(self.lengths[indices].to(copied.lengths.device))
        return copied


@dataclass(frozen=True, eq=False)
class JointRows:
    """The handles of several models for the same N particles."""

    parts: "tuple[CacheRows | JointRows, ...]"

    def __len__(self) -> int:
        """Return N."""
        return len(self.parts[0])

    def split(self, num_models: int) -> "tuple[CacheRows | JointRows, ...]":
        """Return the handle of each model."""
        assert num_models == len(self.parts)
        return self.parts

    def take(self, indices: Int[Tensor, " M"]) -> "JointRows":
        """Return what is cached of the particles `indices`."""
        return JointRows(tuple(part.take(indices) for part in self.parts))

    def keep(self, mask: Bool[Tensor, " N"]) -> "JointRows":
        """Forget what is cached of the other particles."""
        return JointRows(tuple(part.keep(mask) for part in self.parts))

    def given_up(self) -> "JointRows":
        """Return the rows, donated to their last consumer."""
        return JointRows(tuple(part.given_up() for part in self.parts))


Memory = CacheRows | JointRows


def join_memories(parts: list[Memory]) -> Memory:
    """Return what is cached of the particles of all `parts`, in order.

    Parts of one model have rows, those of several models have several; with nothing cached, both
    are the same.
    """
    joint = next((part for part in parts if isinstance(part, JointRows)), None)
    if joint is None:
        return join([part for part in parts if isinstance(part, CacheRows)])
    columns = zip(*(part.split(len(joint.parts)) for part in parts), strict=True)
    return JointRows(tuple(join_memories(list(column)) for column in columns))


def join(parts: list[CacheRows]) -> CacheRows:
    """Return the rows of the particles of all `parts`, in order.

    Only when rows of different caches are needed are these copied into one.
    """
    holders = [part for part in parts if bool(part.present.any())]
    if len({id(part.cache) for part in holders}) > 1:
        holders = parts = _in_one_cache(parts)
    rows = torch.cat([part.rows.where(part.present, -1) for part in parts])
    lengths = torch.cat([part.lengths for part in parts])
    cache = holders[0].cache if holders else None
    return CacheRows(cache, rows, lengths, all(part.is_given_up for part in holders))


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


def padded_rows(
    rows: Sequence[Sequence[int] | Sequence[float]], dtype: torch.dtype = torch.long
) -> tuple[Shaped[Tensor, "B L"], Int[Tensor, " B"]]:
    """Return the rows, at least one, padded with zeros on the right, and their lengths."""
    padded = pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True)
    return padded, torch.tensor([len(row) for row in rows])
