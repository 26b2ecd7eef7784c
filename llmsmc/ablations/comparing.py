"""Comparisons of cells on the same problems and seeds, with verdicts that the data give."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NotRequired, TypedDict

from llmsmc.ablations.cell import Cell
from llmsmc.ablations.figures import Runs, array, by_problem
from llmsmc.ablations.intervals import bootstrap_interval, bounded_interval
from llmsmc.ablations.plan import Comparison

HOLDS: Final = "holds"
FAILS: Final = "does not hold"
OPEN: Final = "not distinguishable"


@dataclass(frozen=True, eq=False)
class Row:
    """A cell, its runs, and its label."""

    cell: Cell
    runs: Runs
    label: str


class Verdict(TypedDict):
    """A mean difference over problems, its interval, and the verdict; None without problems."""

    num_problems: NotRequired[int]
    difference: float | None
    low: float | None
    high: float | None
    verdict: str


class PairReport(Verdict):
    """The comparison of two cells; `tokens` counts tokens of left for each token of right."""

    left: str
    right: str
    tokens: float | None


class ComparisonReport(Verdict):
    """A claim with the comparison of all pairs together, and of each pair."""

    claim: str
    rule: str
    margin: float
    metric: str
    published: str
    pairs: list[PairReport]


def compare(comparison: Comparison, rows: Sequence[Row]) -> ComparisonReport:
    """Return the comparison of all pairs together, and of each pair by itself.

    All pairs together: the mean over pairs within a problem, then over problems. A pair has the
    problems and seeds that both of its cells have run.
    """
    places = comparison.pairs([row.cell for row in rows])
    both = [(rows[left], rows[right]) for left, right in places]
    kept = [(one, other) for one, other in both if one.runs.keys() & other.runs.keys()]
    differences = [_differences(comparison, one, other) for one, other in kept]
    problems = sorted({problem for each in differences for problem in each})
    joint = {p: fmean(each[p] for each in differences if p in each) for p in problems}
    return {
        "claim": comparison.claim,
        "rule": comparison.rule,
        "margin": comparison.margin,
        "metric": comparison.metric,
        "published": comparison.published,
        **_verdict_on(comparison, joint),
        "pairs": [
            {
                "left": one.label,
                "right": other.label,
                "tokens": _tokens(one, other),
                **_verdict_on(comparison, difference),
            }
            for (one, other), difference in zip(kept, differences, strict=True)
        ],
    }


def verdict(low: float, high: float, rule: str, margin: float) -> str:
    """Return the verdict on a claim, given the interval of left minus right."""
    if rule == "equal":
        if -margin <= low and high <= margin:
            return HOLDS
        return FAILS if low > margin or high < -margin else OPEN
    threshold = margin if rule == "greater" else -margin
    if low > threshold:
        return HOLDS
    return FAILS if high < threshold else OPEN


def together(verdicts: Sequence[str]) -> str:
    """Return the verdict on claims that are all made: one that fails makes them fail."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts and all(each == HOLDS for each in verdicts) else OPEN


def _differences(comparison: Comparison, left: Row, right: Row) -> dict[str, float]:
    """Return the mean difference of each problem that both cells have run with a seed."""
    keys = sorted(left.runs.keys() & right.runs.keys())
    mine = by_problem(left.runs, comparison.metric, left.cell.selection, keys)
    theirs = by_problem(right.runs, comparison.metric, right.cell.selection, keys)
    return {problem: mine[problem] - theirs[problem] for problem in mine}


def _verdict_on(comparison: Comparison, differences: dict[str, float]) -> Verdict:
    values = array(differences)
    if not len(values):
        return {"difference": None, "low": None, "high": None, "verdict": OPEN}
    bounded = comparison.metric != "log_score"
    low, high = bounded_interval(values) if bounded else bootstrap_interval(values)
    return {
        "num_problems": len(values),
        "difference": float(values.mean()),
        "low": low,
        "high": high,
        "verdict": verdict(low, high, comparison.rule, comparison.margin),
    }


def _tokens(left: Row, right: Row) -> float | None:
    """Return how many tokens left has generated for each one of right."""
    mine, theirs = (
        fmean(result["cost"]["generated_tokens"] for result in row.runs.values())
        for row in (left, right)
    )
    return mine / theirs if theirs else None
