"""Paired comparisons and their verdicts."""

from typing import Any

import pytest

from llmsmc.ablations.comparing import FAILS, HOLDS, OPEN, compare, together, verdict
from llmsmc.ablations.plan import Comparison
from llmsmc.errors import InputError
from tests.ablations.runs import row, runs


def comparison(**values: Any) -> Comparison:
    given = {"claim": "a > b", "left": {"series": "a"}, "right": {"series": "b"}} | values
    return Comparison(**given)


@pytest.mark.parametrize(
    ("low", "high", "rule", "margin", "expected"),
    [
        (0.01, 0.1, "greater", 0.0, HOLDS),
        (-0.01, 0.1, "greater", 0.0, OPEN),
        (-0.1, -0.01, "greater", 0.0, FAILS),
        (0.01, 0.1, "greater", 0.05, OPEN),
        (-0.02, 0.1, "no less", 0.03, HOLDS),
        (-0.04, 0.1, "no less", 0.03, OPEN),
        (-0.2, -0.04, "no less", 0.03, FAILS),
        (-0.02, 0.02, "equal", 0.03, HOLDS),
        (-0.04, 0.02, "equal", 0.03, OPEN),
        (0.04, 0.2, "equal", 0.03, FAILS),
        (-0.2, -0.04, "equal", 0.03, FAILS),
    ],
)
def test_verdicts(low: float, high: float, rule: str, margin: float, expected: str) -> None:
    assert verdict(low, high, rule, margin) == expected


def test_claims_together() -> None:
    assert together([HOLDS, HOLDS]) == HOLDS
    assert together([HOLDS, OPEN]) == together([]) == OPEN
    assert together([HOLDS, OPEN, FAILS]) == FAILS


def test_what_all_problems_say_holds() -> None:
    better, worse = row("a", runs("1" * 40)), row("b", runs("0" * 20 + "1" * 20))
    found = compare(comparison(), [better, worse])
    assert (found["difference"], found["verdict"], found["num_problems"]) == (0.5, HOLDS, 40)
    assert compare(comparison(left={"series": "b"}, right={"series": "a"}), [better, worse])[
        "verdict"
    ] == (FAILS)


def test_pairs_share_what_they_are_said_to_share() -> None:
    rows = [
        row("a", runs("11"), budget=4),
        row("a", runs("10"), budget=8),
        row("b", runs("01"), budget=8),
        row("b", runs("00"), budget=4),
    ]
    found = compare(comparison(same=("budget",)), rows)
    assert [pair["difference"] for pair in found["pairs"]] == [1.0, 0.0]
    assert found["difference"] == 0.5
    assert [pair["tokens"] for pair in found["pairs"]] == [1.0, 1.0]
    with pytest.raises(InputError, match="Got 2 partners of 'a'"):
        compare(comparison(), rows)


def test_only_runs_that_both_have_are_compared() -> None:
    found = compare(comparison(), [row("a", runs("11", "1")), row("b", runs("01"))])
    assert found["difference"] == 0.5
    assert compare(comparison(), [row("a", runs("1"))])["verdict"] == OPEN


def test_log_scores_have_a_bootstrap() -> None:
    found = compare(comparison(metric="log_score"), [row("a", runs("10")), row("b", runs("01"))])
    assert (found["low"], found["high"]) == (0.0, 0.0)
