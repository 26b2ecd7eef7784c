"""A row of the cache holds its own tokens and nothing else, whatever was done to the others."""

import pytest
import torch
from torch import Tensor

from llmsmc.models.caches.attention import Attention
from llmsmc.models.caches.row_cache import RowCache, RowSelection
from llmsmc.models.caches.rows import TOKENS_PER_BLOCK, CacheRows, join
from llmsmc.models.policies.language_model import LanguageModel


def rows_of(cache: RowCache, owners: Tensor, num: int) -> CacheRows:
    """Return the rows of `num` particles of which `owners` have the rows of a cache, in order."""
    handle = CacheRows.none(num)
    handle.rows[owners] = torch.arange(len(owners))
    handle.lengths[owners] = cache.lengths
    return CacheRows(cache, handle.rows, handle.lengths)


class Rows:
    """A cache under test, beside the token ids that its rows must hold."""

    def __init__(self, policy: LanguageModel, num_rows: int) -> None:
        self.policy, self.cache = policy, RowCache(num_rows)
        self.ids: list[list[int]] = [[] for _ in range(num_rows)]

    def feed(self, new: list[list[int]]) -> Tensor:
        """Append ragged rows; return the logits behind the last position of the padded batch."""
        width = max(len(row) for row in new)
        padded = torch.tensor([row + [7] * (width - len(row)) for row in new])
        counts = torch.tensor([len(row) for row in new])
        with torch.no_grad():
            logits = self.policy.forward(self.cache, padded, counts)[0][:, -1]
        for row, tokens in zip(self.ids, new, strict=True):
            row.extend(tokens)
        return logits

    def check(self, tolerance: float = 1e-5) -> None:
        """Feed one more token and compare with an uncached pass over each row."""
        assert self.cache.lengths.tolist() == [len(row) for row in self.ids]
        logits = self.feed([[n + 1] for n in range(len(self.ids))])
        for row, cached in zip(self.ids, logits, strict=True):
            expected = uncached(self.policy, row)
            torch.testing.assert_close(cached, expected, rtol=0.0, atol=tolerance)


def copied(handle: CacheRows, indices: Tensor) -> RowCache:
    """Return an independent cache with the rows of some particles."""
    assert isinstance(handle.cache, RowCache)
    cache = handle.cache.select(handle.rows[indices])
    cache.truncate(handle.lengths[indices])
    return cache


def fork(cache: RowCache, parents: Tensor) -> None:
    cache.append(cache, parents, cache.lengths[parents])


def uncached(policy: LanguageModel, ids: list[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = policy.model(torch.tensor([ids]), use_cache=False).logits[0, -1]
    return logits


def test_ragged_growth(any_policy: LanguageModel) -> None:
    rows = Rows(any_policy, 3)
    rows.feed([[5, 6, 7], [8], [9, 10]])
    rows.check()
    rows.feed([[1], [2, 3, 4, 5, 6], []])
    rows.feed([[1, 2], [], [3] * 90])  # beyond the first buffer
    rows.check()


def test_resampling_with_duplicates_and_drops(any_policy: LanguageModel) -> None:
    rows = Rows(any_policy, 3)
    rows.feed([[5, 6, 7], [8], [9, 10]])
    for indices in ([2, 2, 0], [0, 0, 0, 1, 2], [3], [0, 0]):
        rows.cache = rows.cache.select(torch.tensor(indices))
        rows.ids = [list(rows.ids[n]) for n in indices]
        rows.check()
        rows.feed([list(range(3, 4 + n)) for n in range(len(indices))])


def test_fan_out_of_a_shared_prompt(any_policy: LanguageModel) -> None:
    rows = Rows(any_policy, 1)
    rows.feed([list(range(5, 30))])
    rows.cache = rows.cache.select(torch.zeros(4, dtype=torch.long))
    rows.ids = [list(rows.ids[0]) for _ in range(4)]
    rows.feed([[1], [2], [3], [4]])
    rows.check()


def test_truncated_rows_forget(any_policy: LanguageModel) -> None:
    rows = Rows(any_policy, 3)
    rows.feed([[5, 6, 7, 8], [8, 9], [9, 10, 11]])
    rows.cache.truncate(torch.tensor([1, 9, 2]))
    rows.ids = [rows.ids[0][:1], rows.ids[1], rows.ids[2][:2]]
    rows.check()


def test_selected_rows_are_independent(policy: LanguageModel) -> None:
    rows = Rows(policy, 2)
    rows.feed([[5, 6, 7], [8]])
    other = Rows(policy, 0)
    other.cache, other.ids = rows.cache.select(torch.tensor([1, 0, 1])), [[8], [5, 6, 7], [8]]
    other.feed([[1], [2], [3, 4, 5]])
    rows.check()
    other.check()


def test_concatenated_caches(policy: LanguageModel) -> None:
    first, second, joined = Rows(policy, 2), Rows(policy, 1), Rows(policy, 0)
    first.feed([[5, 6, 7], [8]])
    second.feed([list(range(5, 90))])
    empty = RowCache(2)
    caches = [first.cache, empty, second.cache]
    joined.cache = RowCache.gathered([(cache, torch.arange(cache.num_rows)) for cache in caches])
    joined.ids = [list(row) for row in [*first.ids, [], [], *second.ids]]
    joined.check()
    first.check()


def test_a_token_costs_no_copy_of_the_cache(policy: LanguageModel) -> None:
    rows = Rows(policy, 2)
    buffers = set()
    for _ in range(6 * TOKENS_PER_BLOCK):
        rows.feed([[1], [2]])
        buffers.add(rows.cache.buffers[0].data_ptr())
    assert len(buffers) <= 6
    assert rows.cache.num_bytes > 0


def test_a_forward_pass_must_be_announced(policy: LanguageModel) -> None:
    with pytest.raises(RuntimeError, match="prepare"):
        policy.model(
            torch.tensor([[1]]), past_key_values=RowCache(1), attention_mask=torch.ones(1, 1, 1, 1)
        )


def test_cache_rows_share_until_they_are_copied(policy: LanguageModel) -> None:
    rows = Rows(policy, 3)
    rows.feed([[5, 6, 7], [8], [9, 10]])
    handle = rows_of(rows.cache, torch.tensor([3, 0, 1]), 5)
    assert handle.present.tolist() == [True, True, False, True, False]
    assert handle.lengths.tolist() == [1, 2, 0, 3, 0]
    resampled = handle.take(torch.tensor([3, 3, 0]))
    assert resampled.cache is handle.cache
    copy = Rows(policy, 0)
    copy.cache = copied(resampled.truncate(torch.tensor([2, 9, 9])), torch.arange(3))
    copy.ids = [[5, 6], [5, 6, 7], [8]]
    copy.check()
    rows.check()  # not written to


def test_cache_rows_of_different_caches_are_joined(policy: LanguageModel) -> None:
    one, two = Rows(policy, 2), Rows(policy, 2)
    one.feed([[5, 6, 7], [8]])
    two.feed([[9, 10], [11]])
    first = rows_of(one.cache, torch.tensor([0, 1]), 3)
    second = rows_of(two.cache, torch.tensor([1, 0]), 2)
    joined = join([first, second.keep(torch.tensor([False, True])), CacheRows.none(1)])
    assert joined.present.tolist() == [True, True, False, False, True, False]
    copy = Rows(policy, 0)
    copy.cache, copy.ids = copied(joined, torch.tensor([4, 1])), [[9, 10], [8]]
    copy.check()
    alone = join([first, CacheRows.none(2)])
    assert alone.cache is one.cache
    assert first.keep(torch.zeros(3, dtype=torch.bool)).cache is None


def test_appended_rows_are_those_of_another_cache(any_policy: LanguageModel) -> None:
    rows, other = Rows(any_policy, 2), Rows(any_policy, 3)
    rows.feed([[5, 6, 7], [8]])
    other.feed([list(range(5, 90)), [9, 10], [11, 12, 13]])
    rows.cache.append(other.cache, torch.tensor([2, 0, 2]), torch.tensor([2, 80, 3]))
    rows.ids += [[11, 12], list(range(5, 85)), [11, 12, 13]]
    rows.check()
    other.check()
    nothing = Rows(any_policy, 0)
    nothing.cache.append(other.cache, torch.tensor([1]), torch.tensor([2]))
    nothing.ids = [[9, 10]]
    nothing.check()


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4], [1, 3, 4], [4], [0, 1], [0, 4], []])
def test_rows_that_stay_fill_the_places_of_those_that_go(
    policy: LanguageModel, kept: list[int]
) -> None:
    rows = Rows(policy, 5)
    rows.feed([[5, 6, 7], [8], [9, 10], list(range(3, 70)), [4, 4]])
    places = rows.cache.keep(torch.tensor(kept, dtype=torch.long)).tolist()
    assert sorted(places[n] for n in kept) == list(range(len(kept)))
    assert [place for n, place in enumerate(places) if n not in kept] == [-1] * (5 - len(kept))
    rows.ids = [rows.ids[places.index(n)] for n in range(len(kept))]
    if kept:
        rows.check()
        fork(rows.cache, torch.tensor([0, len(kept) - 1]))
        rows.ids += [list(rows.ids[0]), list(rows.ids[-1])]
        rows.check()


def test_gathered_rows_have_room_for_more(policy: LanguageModel) -> None:
    one, two = Rows(policy, 2), Rows(policy, 2)
    one.feed([[5, 6, 7], [8]])
    two.feed([list(range(5, 90)), [11]])
    parts = [(two.cache, torch.tensor([1])), (one.cache, torch.tensor([0, 0]))]
    for room in (0, 5):
        joined = Rows(policy, 0)
        joined.cache = RowCache.gathered(parts, room=room)
        keys = joined.cache.buffers[0]
        assert keys.shape[0] == 3 and keys.shape[2] == 3 + room
        joined.ids = [[11], [5, 6, 7], [5, 6, 7]]
        joined.check()
    one.check()


def test_what_is_no_number_can_be_wiped_out(policy: LanguageModel) -> None:
    rows = Rows(policy, 3)
    rows.feed([[5, 6, 7], [8], [9, 10]])
    for buffer in rows.cache.buffers.values():
        buffer[1] = torch.nan
    rows.cache.wipe(torch.tensor([1]))
    rows.cache.keep(torch.tensor([0, 2]))
    fork(rows.cache, torch.tensor([0]))
    rows.ids = [rows.ids[0], rows.ids[2], list(rows.ids[0])]
    rows.check()


def test_rows_move_out_of_a_cache_in_which_there_are_others(policy: LanguageModel) -> None:
    rows = Rows(policy, 6)
    rows.feed([[5 + n] * (n + 1) for n in range(6)])
    handle = rows_of(rows.cache, torch.arange(6), 6)
    few, everybody = handle.take(torch.tensor([4, 4, 2])), handle.take(torch.arange(6).flip(0))
    assert everybody.own() is everybody and CacheRows.none(2).own().cache is None
    own = few.own()
    assert own.cache is not None and own.cache.num_rows == 2
    copy = Rows(policy, 0)
    copy.cache, copy.ids = copied(own, torch.arange(3)), [[9] * 5, [9] * 5, [7] * 3]
    copy.check()


@pytest.mark.parametrize("held", [[0, 1, 2, 3], [3, 3, 1], [2], [1, 3, 1, 3, 3, 0], []])
def test_a_cache_holds_what_is_asked_for(policy: LanguageModel, held: list[int]) -> None:
    rows = Rows(policy, 4)
    rows.feed([[5, 6, 7], [8, 9], [9, 10], list(range(3, 70))])
    lengths = [max(1, len(rows.ids[n]) - k) for k, n in enumerate(held)]
    old = rows.cache
    rows.cache = old.moved_out()
    assert old.num_rows == 0 and old.num_bytes == 0
    places = rows.cache.hold(torch.tensor(held).long(), torch.tensor(lengths).long()).tolist()
    assert sorted(places) == list(range(len(held)))
    wanted = [rows.ids[n][:length] for n, length in zip(held, lengths, strict=True)]
    rows.ids = [wanted[places.index(n)] for n in range(len(held))]
    if held:
        rows.check()


@pytest.mark.parametrize("front", [[0, 1], [3, 4], [1, 4, 2], [4], [0, 1, 2, 3, 4], []])
def test_rows_in_front_are_fed_alone(policy: LanguageModel, front: list[int]) -> None:
    rows = Rows(policy, 5)
    rows.feed([[5, 6, 7], [8], [9, 10], list(range(3, 70)), [4, 4]])
    places = rows.cache.put_in_front(torch.tensor(front).long()).tolist()
    assert sorted(places[n] for n in front) == list(range(len(front)))
    rows.ids = [rows.ids[places.index(n)] for n in range(5)]
    if front:
        with torch.no_grad():
            policy.forward(rows.cache, torch.tensor([[11, 12]] * len(front)))
        for row in rows.ids[: len(front)]:
            row.extend([11, 12])
    rows.check()


def test_rows_of_several_caches_are_fed_where_they_are(any_policy: LanguageModel) -> None:
    first, second, third = (Rows(any_policy, n) for n in (3, 2, 2))
    first.feed([[5, 6, 7], [8], [9, 10]])
    second.feed([list(range(5, 90)), [11]])  # the third has not been fed yet
    chosen = [(first, [2, 0]), (second, [0]), (third, [1])]
    selection = RowSelection([(rows.cache, torch.tensor(which)) for rows, which in chosen])
    assert selection.lengths.tolist() == [2, 3, 85, 0]
    new = [[1, 2], [3], [4, 5], [6]]
    padded = torch.tensor([row + [7] * (2 - len(row)) for row in new])
    slots = selection.prepare(2)
    with torch.no_grad():
        logits = any_policy.model(
            padded,
            position_ids=slots.position_ids,
            attention_mask=Attention(any_policy.model.config).masks(slots),
            past_key_values=selection,
        ).logits
    selection.commit(torch.tensor([len(row) for row in new]))
    owners = [(rows, n) for rows, which in chosen for n in which]
    for (rows, n), tokens, seen in zip(owners, new, logits, strict=True):
        rows.ids[n] += tokens
        expected = uncached(any_policy, rows.ids[n])
        torch.testing.assert_close(seen[len(tokens) - 1], expected, rtol=0.0, atol=1e-5)
    for rows in (first, second, third):
        rows.check()


def test_rows_that_are_given_up_are_gone_for_others(policy: LanguageModel) -> None:
    rows = Rows(policy, 3)
    rows.feed([[5, 6, 7], [8], [9, 10]])
    handle = rows_of(rows.cache, torch.arange(3), 3)
    last = handle.take(torch.tensor([2, 0])).donated()
    assert last.is_donated and not handle.is_donated and bool(handle.present.all())
    assert last.cache is not None
    moved = last.cache.moved_out()
    assert moved.num_rows == 3
    assert not bool(handle.present.any()) and not bool(last.present.any())
    other = Rows(policy, 1)
    other.feed([[4, 4]])
    joined = join([handle, rows_of(other.cache, torch.tensor([0]), 1)])
    assert joined.present.tolist() == [False, False, False, True]
    assert joined.cache is other.cache
