"""All figures of the page, from the folders of the cells: `docs/figures/real_questions.json`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np

from benchmarks.real_questions import discrimination
from benchmarks.real_questions.outcomes import (
    BEST,
    DVTS,
    FILTER,
    GREEDY,
    MAJORITY,
    WEIGHTED,
    Outcome,
    Samples,
    of_samples,
    read_cells,
    read_samples,
)
from benchmarks.real_questions.plan import CELLS, LAWS, PLANNED, REWARDS, World
from llmsmc.ablations.comparing import verdict
from llmsmc.ablations.intervals import Interval, Values, bounded_interval

GOAL: Final = 0.08
"""How far above a majority of 16 the filter is meant to be."""

LOSS: Final = 0.03
"""How much less a quantized policy may be right, to be called no less."""

_QUANTILE: Final = 1.959963984540054  # of the normal distribution, at 0.975


def share_interval(values: Values) -> Interval:
    """Return the 95 % interval of the mean of values in [0, 1].

    Two values of one and two of zero are added; for zeros and ones it is the interval of Agresti
    and Coull. It has a width even where all values are the same.

    Reference: Agresti, Coull (1998). Approximate is better than "exact" for interval estimation of
    binomial proportions.
    """
    count = len(values) + 4
    mean = (float(values.sum()) + 2) / count
    variance = (float((values**2).sum()) + 2) / count - mean**2
    half = _QUANTILE * float(np.sqrt(variance / count))
    return max(mean - half, 0.0), min(mean + half, 1.0)


def figures_of(work: Path, worlds: Mapping[str, World]) -> dict[str, Any]:
    """Return the figures of all worlds, as in the JSON file."""
    return {name: figures_of_world(work / name, world) for name, world in worlds.items()}


def figures_of_world(folder: Path, world: World) -> dict[str, Any]:
    """Return the figures of the cells of a world that are whole, and the names of the others."""
    cells = read_cells(folder, world.count)
    samples = read_samples(folder / "samples", world.count)
    larger = read_samples(folder / "samples-larger", world.count)
    laws = {name: _document(folder / f"{name}.json") for name in LAWS}
    there = [*cells, *(name for name, found in laws.items() if found is not None)]
    voted = list[Outcome]()
    if samples is not None:
        there += ["samples", *(f"scores-{name}" for name in samples.scores)]
        voted += of_samples(samples)
    if larger is not None:
        there.append("samples-larger")
        voted += of_samples(larger, is_larger=True)
    found = [*cells.values(), *voted]
    planned = PLANNED[world.name]
    return {
        "questions": world.count,
        "there": [name for name in dict.fromkeys((*planned, *CELLS)) if name in there],
        "missing": [name for name in planned if name not in there],
        "samples": None if samples is None else samples.num,
        "methods": [method(each) for each in found],
        "claims": list(claims(found)),
        "larger": list(at_equal_operations(found)),
        "quantized": list(quantized(found)),
        "laws": {name: found for name, found in laws.items() if found is not None},
        **_of_rewards(samples),
    }


def _of_rewards(samples: Samples | None) -> dict[str, Any]:
    if samples is None or not samples.cut:
        return {"rewards": [], "rewards_compared": []}
    return {
        "rewards": discrimination.of_rewards(samples),
        "rewards_compared": discrimination.differences(samples),
    }


def method(outcome: Outcome) -> dict[str, Any]:
    """Return the figures of a method."""
    right = np.array(list(outcome.right.values()))
    low, high = share_interval(right)
    names = ["tokens", "operations", "positions", "seconds", "outside", "calibration"]
    names += ["first_steps", "solutions"]
    return {
        **key(outcome),
        "accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "probability": fmean(outcome.probability.values()),
        **{name: getattr(outcome, name) for name in names},
    }


def key(outcome: Outcome) -> dict[str, Any]:
    """Return what tells a method from the others."""
    names = ("method", "size", "reward", "is_larger", "quantization")
    return {name: getattr(outcome, name) for name in names}


def filters(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the filters, but for those with a reward that knows the answers."""
    return [each for each in outcomes if each.method == FILTER and each.reward != "answer"]


def claims(outcomes: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    """Yield whether each filter is above the other methods at equal N and with its reward."""
    for mine in filters(outcomes):
        for other in outcomes:
            same = other.size == mine.size and not other.is_larger
            if same and other.method == MAJORITY:
                yield compared(mine, other)
                if mine.size == 16:
                    yield compared(mine, other, margin=GOAL)
            if same and other.method in (BEST, WEIGHTED, DVTS) and other.reward == mine.reward:
                yield compared(mine, other)


def at_equal_operations(outcomes: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    """Yield whether each filter is above the larger model at no more operations.

    The larger model votes with as many solutions as the operations of the filter allow.
    """
    of_larger = [each for each in outcomes if each.is_larger]
    for mine in filters(outcomes):
        votes = [each for each in of_larger if each.method == MAJORITY]
        allowed = [each for each in votes if each.operations <= mine.operations]
        chosen = [max(allowed, key=lambda each: each.size)] if allowed else votes[:1]
        for other in [*chosen, *(each for each in of_larger if each.method == GREEDY)]:
            yield compared(mine, other) | {
                "left_operations": mine.operations,
                "right_operations": other.operations,
            }


def quantized(outcomes: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    """Yield whether each quantized policy is no less right than the full one, both greedy."""
    greedy = {each.quantization: each for each in outcomes if _is_own_greedy(each)}
    for kind, mine in greedy.items():
        if kind != "none" and "none" in greedy:
            yield compared(mine, greedy["none"], rule="no less", margin=LOSS)


def _is_own_greedy(outcome: Outcome) -> bool:
    return outcome.method == GREEDY and not outcome.is_larger


def compared(
    left: Outcome, right: Outcome, *, rule: str = "greater", margin: float = 0.0
) -> dict[str, Any]:
    """Return the difference of two methods on the questions of both, its interval and the verdict.

    The rule is that of the page of claims: "greater" holds if the interval is above the margin, "no
    less" if it is above minus the margin; the other way round it does not hold.
    """
    names = sorted(left.right.keys() & right.right.keys())
    differences = np.array([left.right[name] - right.right[name] for name in names])
    low, high = bounded_interval(differences)
    return {
        "left": key(left),
        "right": key(right),
        "questions": len(names),
        "rule": rule,
        "margin": margin,
        "difference": float(differences.mean()) if names else None,
        "low": low,
        "high": high,
        "verdict": verdict(low, high, rule, margin),
    }


def label(found: Mapping[str, Any], *, with_size: bool = True) -> str:
    """Return what a reader calls a method."""
    parts = [str(found["method"])]
    if found["method"] == MAJORITY and found["size"] == 1:
        parts = ["one draw (pass@1)"]
    if found["is_larger"]:
        parts = [f"1.5B, {parts[0]}"]
    if found["reward"] is not None:
        parts.append(REWARDS[found["reward"]].label)
    if found["quantization"] != "none":
        parts.append(found["quantization"])
    name = ", ".join(parts)
    return f"{name}, N = {found['size']}" if with_size and found["method"] != GREEDY else name


def _document(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
