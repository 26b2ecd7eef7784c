"""Rows in the memory of an engine, against an engine that knows its texts and forgets nothing."""

import gc
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.models.caches.rows import CacheRows, Rows, gather, join
from llmsmc.models.caches.sequences import TextMemory, TextRows

VOCAB = 5
KINDS = ("feed", "select", "keep", "front", "append", "truncate", "out")


def logits_of(ids: Sequence[int]) -> Tensor:
    """Return numbers that tell one text from another."""
    number = 1
    for each in ids:
        number = (number * 31 + each + 1) % 10007
    return torch.arange(VOCAB) * 0.5 + number


class ToyEngine:
    """An engine with a few slots and cells, which holds texts as they are."""

    vocab_size = VOCAB
    tokens_at_once = 7
    logits_at_once = 3

    def __init__(self, num_slots: int, num_cells: int) -> None:
        self.num_slots, self._num_cells = num_slots, num_cells
        self.texts: dict[int, tuple[int, ...]] = {}
        self.fails = False

    def _cells(self, texts: dict[int, tuple[int, ...]]) -> int:
        """Return how many positions there are, those that texts share counted once."""
        return len({text[: n + 1] for text in texts.values() for n in range(len(text))})

    def decode(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        slots: Sequence[int],
        is_wanted: Sequence[bool],
    ) -> Tensor | None:
        assert 0 < len(ids) <= self.tokens_at_once
        assert sum(is_wanted) <= self.logits_at_once
        texts, found = dict(self.texts), list[Tensor]()
        for each, place, slot, want in zip(ids, positions, slots, is_wanted, strict=True):
            assert 0 <= slot < self.num_slots
            text = texts.get(slot, ())
            assert place == len(text), "a text is extended at its end"
            texts[slot] = (*text, each)
            if want:
                found.append(logits_of(texts[slot]))
        if self.fails:
            raise RuntimeError("broken")
        if self._cells(texts) > self._num_cells:
            return None
        self.texts = texts
        return torch.stack(found) if found else torch.zeros((0, VOCAB))

    def copy(self, source: int, target: int, length: int) -> None:
        assert target not in self.texts and len(self.texts[source]) >= length
        self.texts[target] = self.texts[source][:length]

    def forget(self, slot: int) -> None:
        self.texts.pop(slot, None)

    def clear(self) -> None:
        self.texts = {}


def memory(num_slots: int = 6, num_cells: int = 30) -> TextMemory:
    return TextMemory(ToyEngine(num_slots, num_cells))


def engine_of(memory: TextMemory) -> ToyEngine:
    assert isinstance(memory.engine, ToyEngine)
    return memory.engine


def feed(rows: TextRows, new: list[list[int]], num_logits: int | None = None) -> Tensor:
    """Extend ragged rows; return what is said behind them."""
    width = max(map(len, new))
    padded = torch.tensor([ids + [0] * (width - len(ids)) for ids in new]).reshape(len(new), width)
    counts = torch.tensor([len(ids) for ids in new])
    return rows.extend(padded, counts, width if num_logits is None else num_logits)


def test_rows_are_of_the_protocol() -> None:
    assert isinstance(memory().new_rows(2), Rows)


def test_logits_stand_behind_each_new_id() -> None:
    rows = memory().new_rows(3)
    found = feed(rows, [[1, 2, 3], [], [4]])
    assert found.shape == (3, 3, VOCAB) and rows.lengths.tolist() == [3, 0, 1]
    for n, text in enumerate(([1], [1, 2], [1, 2, 3])):
        assert torch.equal(found[0, n], logits_of(text))
    assert torch.equal(found[2, 0], logits_of([4]))
    last = feed(rows, [[1], [2], [3]], 1)
    expected = [logits_of(text) for text in ([1, 2, 3, 1], [2], [4, 3])]
    assert torch.equal(last[:, 0], torch.stack(expected))
    assert feed(rows, [[1], [2], [3]], 0).shape == (3, 0, VOCAB)


def test_a_row_goes_on_where_it_lies_and_its_copies_elsewhere() -> None:
    store = memory()
    rows = store.new_rows(1)
    feed(rows, [[1, 2, 3]])
    (first,) = rows.texts
    again = rows.select(torch.tensor([0, 0]))
    assert store.num_computed == 3 and len(engine_of(store).texts) == 1, "copies cost nothing"
    feed(again, [[4], [3]])
    assert again.texts[0] is first and again.texts[1] is not first
    assert store.num_computed == 5
    feed(rows, [[4]])  # of which the row itself knows nothing
    assert store.num_computed == 6 and rows.lengths.tolist() == [4]


def test_what_is_remembered_is_computed_again_where_logits_are_wanted() -> None:
    store = memory()
    rows = store.new_rows(1)
    feed(rows, [[1, 2, 3, 4]])
    found = feed(store.new_rows(1), [[1, 2, 3, 4]], 3)
    expected = [logits_of(text) for text in ([1, 2], [1, 2, 3], [1, 2, 3, 4])]
    assert torch.equal(found[0], torch.stack(expected))
    assert store.num_computed == 4 + 3


def test_what_nobody_has_leaves_the_memory() -> None:
    store = memory()
    rows = store.new_rows(2)
    feed(rows, [[1], [2]])
    del rows
    gc.collect()
    feed(store.new_rows(1), [[3]])
    assert list(engine_of(store).texts.values()) == [(3,)]


def test_texts_that_left_are_computed_behind_what_they_share_with_others() -> None:
    store = memory(num_slots=3)
    rows = store.new_rows(1)
    feed(rows, [[1, 2, 3]])
    copies = rows.select(torch.tensor([0, 0, 0, 0]))
    feed(copies, [[0], [1], [2], [3]])
    assert len(engine_of(store).texts) <= 3
    before = store.num_computed
    feed(copies, [[4], [4], [4], [4]])
    assert store.num_computed - before <= 4 + 4, "three shared tokens are not computed again"


def test_a_text_larger_than_the_memory_is_refused_and_the_rest_goes_on() -> None:
    store = memory(num_cells=5)
    rows = store.new_rows(2)
    feed(rows, [[1, 2], [3]])
    with pytest.raises(InputError, match="does not hold one text. Got 8 tokens"):
        feed(store.new_rows(1), [[1, 2, 3, 4, 0, 1, 2, 3]])
    assert torch.equal(feed(rows, [[4], [4]], 1)[0, 0], logits_of([1, 2, 4]))


@pytest.mark.parametrize(("num_slots", "num_cells"), [(2, 30), (6, 12), (3, 10)])
def test_more_texts_than_the_memory_holds_are_computed_in_parts(
    num_slots: int, num_cells: int
) -> None:
    store = memory(num_slots, num_cells)
    rows, texts = store.new_rows(5), [[n, 1, 2, 3] for n in range(5)]
    found = feed(rows, texts)
    for _ in range(2):
        for n, text in enumerate(texts):
            assert torch.equal(found[n, -1], logits_of(text))
            text.append(n)
        found = feed(rows, [text[-1:] for text in texts])


def test_rows_stay_what_they_were_when_the_engine_fails() -> None:
    store = memory()
    rows = store.new_rows(1)
    feed(rows, [[1, 2]])
    engine_of(store).fails = True
    with pytest.raises(RuntimeError, match="broken"):
        feed(rows, [[3]])
    engine_of(store).fails = False
    assert rows.lengths.tolist() == [2]
    assert torch.equal(feed(rows, [[4]])[0, 0], logits_of([1, 2, 4]))


def test_wiped_rows_are_computed_again() -> None:
    store = memory()
    rows = store.new_rows(2)
    feed(rows, [[1, 2], [3]])
    rows.wipe(torch.tensor([0]))
    assert not engine_of(store).texts
    assert torch.equal(feed(rows, [[4], [4]], 1)[1, 0], logits_of([3, 4]))


def test_handles_of_particles_take_them_as_they_take_any_rows() -> None:
    store = memory()
    one, two = store.new_rows(2), store.new_rows(1)
    feed(one, [[1, 2], [3]])
    feed(two, [[4, 0]])
    parts = [
        CacheRows(one, torch.tensor([0, 1]), torch.tensor([2, 1])),
        CacheRows(two, torch.tensor([0]), torch.tensor([1])),
    ]
    joined = join(parts)
    assert isinstance(joined.cache, TextRows)
    rows = joined.cache.select(joined.rows)
    rows.truncate(joined.lengths)
    found = feed(rows, [[1], [1], [1]])
    expected = [logits_of(text) for text in ([1, 2, 1], [3, 1], [4, 1])]
    assert torch.equal(found[:, 0], torch.stack(expected))


class Model:
    """Rows beside plain lists of what they hold."""

    def __init__(self, store: TextMemory, num_rows: int) -> None:
        self.rows, self.ids = store.new_rows(num_rows), [list[int]() for _ in range(num_rows)]

    def feed(self, new: list[list[int]]) -> None:
        found = feed(self.rows, new)
        for n, ids in enumerate(new):
            for place, each in enumerate(ids):
                self.ids[n].append(each)
                assert torch.equal(found[n, place], logits_of(self.ids[n]))

    def moved(self, places: Tensor) -> None:
        there = {place: n for n, place in enumerate(places.tolist()) if place >= 0}
        self.ids = [self.ids[there[place]] for place in sorted(there)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_rows_are_what_was_written_whatever_leaves_the_memory(data: Any) -> None:
    """All that moves rows, in any order, in a memory that is too small for them."""
    store = memory(data.draw(st.integers(2, 6)), data.draw(st.integers(14, 40)))
    models = [Model(store, data.draw(st.integers(1, 3)))]
    short = st.lists(st.integers(0, VOCAB - 1), max_size=3)
    for _ in range(data.draw(st.integers(1, 8))):
        model = models[data.draw(st.integers(0, len(models) - 1))]
        count = len(model.ids)
        some = st.lists(st.integers(0, count - 1), min_size=1, max_size=4) if count else st.just([])
        match data.draw(
            st.sampled_from(["feed", "select", "keep", "front", "append", "truncate", "out"])
        ):
            case "feed" if count and max(map(len, model.ids)) < 9:
                new = [data.draw(short) for _ in range(count)]
                if any(new):
                    model.feed(new)
            case "select" if count and len(models) < 4:
                which = data.draw(some)
                other = Model(store, 0)
                other.rows = gather(
                    [(model.rows, torch.tensor(which)), (model.rows, torch.tensor(which[:1]))]
                )  # type: ignore[assignment]
                other.ids = [list(model.ids[n]) for n in [*which, which[0]]]
                models.append(other)
            case "keep" if count:
                kept = sorted(set(data.draw(some)))
                model.moved(model.rows.keep(torch.tensor(kept), torch.tensor(kept[-1:])))
            case "front" if count:
                model.moved(model.rows.put_in_front(torch.tensor(sorted(set(data.draw(some))))))
            case "append" if 0 < count < 5:
                which = data.draw(some)
                lengths = [data.draw(st.integers(0, len(model.ids[n]))) for n in which]
                at = model.rows.append(model.rows, torch.tensor(which), torch.tensor(lengths))
                assert at.tolist() == list(range(count, count + len(which)))
                model.ids += [
                    model.ids[n][:length] for n, length in zip(which, lengths, strict=True)
                ]
            case "truncate" if count:
                lengths = [data.draw(st.integers(0, 9)) for _ in model.ids]
                model.rows.truncate(torch.tensor(lengths))
                model.ids = [ids[:n] for ids, n in zip(model.ids, lengths, strict=True)]
            case "out" if count:
                which = data.draw(some)
                lengths = [data.draw(st.integers(0, len(model.ids[n]))) for n in which]
                moved = model.rows.moved_out()
                assert model.rows.num_rows == 0
                at = moved.hold(torch.tensor(which), torch.tensor(lengths)).tolist()
                ids = [model.ids[n][:length] for n, length in zip(which, lengths, strict=True)]
                model.rows, model.ids = moved, [ids[at.index(n)] for n in range(len(at))]
            case _:
                pass
        assert model.rows.lengths.tolist() == [len(ids) for ids in model.ids]
        assert len(engine_of(store).texts) <= store.engine.num_slots
    for model in models:
        for row in range(0, len(model.ids), 2):
            one = Model(store, 0)
            one.rows, one.ids = model.rows.select(torch.tensor([row])), [list(model.ids[row])]
            one.feed([[1]])
