r"""The figures of a cell: how often it is right, how good its posterior is, and what it costs.

The accuracy is the share of selected answers that are right; failed runs count as wrong, unless all
have failed, which gives no accuracy. The figures of the posterior of the answer
are the mean probability of the right answer, its log score, the mean of
$\log(0.99 \, p + 0.01)$ with p the probability of the right answer (one part in a hundred is set
aside for answers that no particle has), and the calibration of the probability of the leading
answer: in ten bins, how probable it was said to be and how often it was right, and the expected
calibration error, the mean gap between the two.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, TypedDict

import numpy as np

from llmsmc.ablations.cell import Cell
from llmsmc.ablations.intervals import Values, mean_and_error
from llmsmc.errors import InputError
from llmsmc.evaluation.runner import Result

NUM_BINS: Final = 10
MIN_IN_BIN: Final = 5  # runs, of which a share is shown
_SET_ASIDE: Final = 0.01

Key = tuple[str, int]
"""The id of a problem, and a seed."""

Runs = dict[Key, Result]

Bin = TypedDict(
    "Bin", {"from": float, "to": float, "count": int, "probability": float, "right": float}
)
"""Runs whose leading answer is that probable, and how often it is right."""


class Figures(TypedDict):
    """The figures of a cell; None where there is nothing to average."""

    num_problems: int
    num_runs: int
    accuracy: float | None
    standard_error: float | None
    probability_correct: float | None
    probability_correct_error: float | None
    log_score: float | None
    log_score_error: float | None
    calibration_error: float | None
    reliability: list[Bin]
    generated_tokens: float
    scored_tokens: float
    model_calls: float
    truncated: float | None
    num_errors: int
    seconds: float


def value_of(result: Result, metric: str, selection: str = "mode") -> float:
    """Return the value of a run for a metric of `plan.METRICS`."""
    if metric == "accuracy":
        return float(is_right(result, selection))
    probability = float(result["probability_correct"])
    if metric == "probability_correct":
        return probability
    return math.log((1 - _SET_ASIDE) * probability + _SET_ASIDE)


def is_right(result: Result, selection: str) -> bool:
    """Return whether the answer by a rule of selection is right.

    Raises:
        InputError: the result was written before there was that rule.
    """
    if selection == "mode" or not result["selected"]:
        return bool(result["correct"])
    if selection not in result["selected"]:
        raise InputError(
            f"Results of another version have other rules of selection. Got {selection!r} for "
            f"{result['id']!r}; accepted: {', '.join(result['selected'])}, or another folder."
        )
    return bool(result["selected"][selection])


def by_problem(runs: Runs, metric: str, selection: str, keys: Iterable[Key]) -> dict[str, float]:
    """Return the mean of a metric over the seeds of each problem."""
    values = defaultdict[str, list[float]](list)
    for key in keys:
        values[key[0]].append(value_of(runs[key], metric, selection))
    return {problem: fmean(each) for problem, each in values.items()}


def all_failed(runs: Runs) -> bool:
    """Return whether none of the runs came to its end."""
    return all(result["error"] is not None for result in runs.values())


def figures(cell: Cell, runs: Runs) -> Figures:
    """Return the figures of a cell, of at least one run."""
    results = [runs[key] for key in sorted(runs)]
    costs = [result["cost"] for result in results]

    def average(metric: str) -> tuple[float | None, float | None]:
        if all_failed(runs):
            return None, None
        return mean_and_error(array(by_problem(runs, metric, cell.selection, sorted(runs))))

    accuracy, error = average("accuracy")
    probability, probability_error = average("probability_correct")
    log_score, log_score_error = average("log_score")
    bins = reliability(results)
    counts = [each["num_particles"] for each in results if each["num_particles"]]
    truncated = [each["truncated"] / each["num_particles"] for each in results if each["truncated"]]
    return {
        "num_problems": len({problem for problem, _ in runs}),
        "num_runs": len(results),
        "accuracy": accuracy,
        "standard_error": error,
        "probability_correct": probability,
        "probability_correct_error": probability_error,
        "log_score": log_score,
        "log_score_error": log_score_error,
        "calibration_error": calibration_error(bins),
        "reliability": bins,
        "generated_tokens": fmean(cost["generated_tokens"] for cost in costs),
        "scored_tokens": fmean(cost["scored_tokens"] for cost in costs),
        "model_calls": fmean(cost["model_calls"] for cost in costs),
        "truncated": math.fsum(truncated) / len(counts) if counts else None,
        "num_errors": sum(result["error"] is not None for result in results),
        "seconds": fmean(result["seconds"] for result in results),
    }


def reliability(results: Sequence[Result]) -> list[Bin]:
    """Return, for each bin that is not empty, how probable answers were and how often right."""
    filled = defaultdict[int, list[Result]](list)
    for result in results:
        if result["answer"] is not None:
            filled[min(int(NUM_BINS * result["probability"]), NUM_BINS - 1)].append(result)
    return [
        {
            "from": number / NUM_BINS,
            "to": (number + 1) / NUM_BINS,
            "count": len(each),
            "probability": fmean(result["probability"] for result in each),
            "right": fmean(bool(result["correct"]) for result in each),
        }
        for number, each in sorted(filled.items())
    ]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Return the expected calibration error; None where there were no answers."""
    total = sum(each["count"] for each in bins)
    if not total:
        return None
    gaps = (each["count"] * abs(each["probability"] - each["right"]) for each in bins)
    return float(math.fsum(gaps) / total)


def array(values: dict[str, float]) -> Values:
    """Return the values in the order of their problems."""
    return np.array([values[problem] for problem in sorted(values)])
