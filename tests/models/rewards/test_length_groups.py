"""Rows in groups of similar length: the cheapest of all cuts, found by trying them all."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from llmsmc.models.rewards.reward_model import length_groups

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8).map(sorted)


def cost(lengths: list[int], groups: list[range], call: int) -> int:
    return sum(call + len(rows) * lengths[rows[-1]] for rows in groups)


@given(LENGTHS, st.integers(0, 20), st.integers(1, 60))
def test_no_cut_is_cheaper(lengths: list[int], call: int, most: int) -> None:
    groups = length_groups(lengths, call, most)
    assert [row for rows in groups for row in rows] == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * lengths[rows[-1]] <= most for rows in groups)
    if len(lengths) * lengths[-1] > most:
        return  # full groups of equal rows are cut from the left, whatever comes after
    cuts = (
        [0, *inner, len(lengths)]
        for count in range(len(lengths))
        for inner in combinations(range(1, len(lengths)), count)
    )
    every = ([range(a, b) for a, b in zip(cut, cut[1:], strict=False)] for cut in cuts)
    assert cost(lengths, groups, call) == min(cost(lengths, each, call) for each in every)


def test_short_rows_do_not_wait_for_a_long_one() -> None:
    assert length_groups([5] * 30 + [100], call=64, most=10_000) == [range(30), range(30, 31)]
    assert length_groups([5] * 3 + [6], call=64, most=10_000) == [range(4)]
    assert length_groups([], call=64, most=10_000) == []
