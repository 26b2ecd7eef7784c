r"""How well scores of steps tell right steps from wrong ones: figures of arrays.

* AUROC: the probability that a right step has a higher score than a wrong one, ties counted half
  (the statistic of Mann and Whitney);
* log-loss: $-\frac{1}{M} \sum_i y_i \log r_i + (1 - y_i) \log (1 - r_i)$, in nats;
* Brier score: $\frac{1}{M} \sum_i (r_i - y_i)^2$;
* reliability: in bins of the score, its mean and that of the labels.

Labels are numbers in [0, 1]; where two classes are needed, those of one half or more are right.
Intervals are those of the bootstrap over questions, since steps of a question are not independent.

Shapes: M steps, Q questions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

NUM_BINS: Final = 10
_REPLICATES: Final = 500
_LEVEL: Final = 0.95
_BISECTIONS: Final = 100
_EXTREME: Final = 1e3  # the largest temperature, and one over the smallest

Array = ndarray


@dataclass(frozen=True, eq=False)
class Judged:
    """Steps with their scores and labels.

    Attributes:
        log_odds: of the scores; of any other number by which steps are ordered.
        labels: how right each step is, in [0, 1].
        questions: the number of the question that it belongs to.
        positions: its number in the solution, from 1.
        lengths: how many tokens it has.
        until_error: whether no step before it is wrong.
        is_last: whether it is the last of its solution.
        correct: whether its solution ends right.
    """

    log_odds: Float64[Array, " M"]
    labels: Float64[Array, " M"]
    questions: Int64[Array, " M"]
    positions: Int64[Array, " M"]
    lengths: Int64[Array, " M"]
    until_error: Bool[Array, " M"]
    is_last: Bool[Array, " M"]
    correct: Bool[Array, " M"]

    def __len__(self) -> int:
        """Return M."""
        return len(self.labels)

    def __getitem__(self, rows: Array) -> "Judged":
        """Return some of the steps."""
        return Judged(*(getattr(self, each.name)[rows] for each in fields(self)))


def auroc(log_odds: Array, labels: Array) -> float | None:
    """Return the area under the ROC curve; None where one of the classes is missing."""
    right = labels >= 0.5
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    if not num_right or not num_wrong:
        return None
    _, which, counts = np.unique(log_odds, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # ties share the mean of their ranks
    total = float(ranks[which][right].sum())
    above = total - num_right * (num_right + 1) / 2
    return above / (num_right * num_wrong)


def log_loss(log_odds: Array, labels: Array) -> float | None:
    """Return the mean cross-entropy of labels and scores, in nats; None of no steps."""
    if not len(labels):
        return None
    return float(np.mean(np.logaddexp(0.0, log_odds) - labels * log_odds))


def brier_score(log_odds: Array, labels: Array) -> float | None:
    """Return the mean squared distance of scores and labels; None of no steps."""
    return float(np.mean((sigmoid(log_odds) - labels) ** 2)) if len(labels) else None


def reliability(log_odds: Array, labels: Array, num_bins: int = NUM_BINS) -> list[dict[str, Any]]:
    """Return for bins of the score the number of steps, the mean score and the mean label."""
    scores = sigmoid(log_odds)
    which = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    return [
        {
            "from": number / num_bins,
            "to": (number + 1) / num_bins,
            "steps": int(inside.sum()),
            "score": float(scores[inside].mean()),
            "label": float(labels[inside].mean()),
        }
        for number in range(num_bins)
        if (inside := which == number).any()
    ]


def calibration_error(log_odds: Array, labels: Array) -> float | None:
    """Return the mean distance of score and label over the bins, weighed by their steps."""
    if not len(labels):
        return None
    bins = reliability(log_odds, labels)
    total = sum(each["steps"] * abs(each["score"] - each["label"]) for each in bins)
    return float(total) / len(labels)


def best_temperature(log_odds: Array, labels: Array) -> float:
    """Return the temperature that minimises the log-loss; labels may be soft.

    The loss is convex in one over the temperature. Where none is best, as for scores that agree
    with all labels or with none, it is bounded.

    Reference: Guo et al. (2017). On calibration of modern neural networks.
    """

    def slope(inverse: float) -> float:
        return float(np.sum(log_odds * (sigmoid(inverse * log_odds) - labels)))

    low, high = 1 / _EXTREME, _EXTREME
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / high


def sigmoid(log_odds: Array) -> Array:
    """Return the probabilities of log-odds."""
    found: Array = np.exp(-np.logaddexp(0.0, -np.asarray(log_odds, dtype=float)))
    return found


def interval(
    judged: Judged,
    figure: Callable[[Judged], float | None],
    *,
    seed: int = 0,
    replicates: int = _REPLICATES,
) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure by the bootstrap over questions.

    Questions are drawn with replacement, each with all of its steps; None if hardly any such draw
    has the figure.
    """
    names, which = np.unique(judged.questions, return_inverse=True)
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(names) + 1))
    rows = [order[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    random, found = np.random.default_rng(seed), list[float]()
    for _ in range(replicates if len(names) > 1 else 0):
        drawn = random.integers(len(names), size=len(names))
        value = figure(judged[np.concatenate([rows[n] for n in drawn])])
        if value is not None:
            found.append(value)
    if len(found) < replicates / 2 or not found:
        return None
    tail = 50 * (1 - _LEVEL)
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)


def figures(judged: Judged, *, are_probabilities: bool = True) -> dict[str, Any]:
    """Return all figures of scored steps, as in a JSON file.

    Args:
        judged: the steps.
        are_probabilities: whether scores are probabilities; else only their order means something.
    """
    until, last = judged[judged.until_error], judged[judged.is_last]
    answers = Judged(**vars(last) | {"labels": last.correct.astype(float)})
    found: dict[str, Any] = {
        "steps": len(judged),
        "solutions": len(last),
        "questions": len(np.unique(judged.questions)),
        "right": float(np.mean(judged.labels)) if len(judged) else None,
        "auroc_until_error": _with_interval(until, _auroc),
        "auroc_all_steps": _with_interval(judged, _auroc),
        "auroc_answer_from_last_step": _with_interval(answers, _auroc),
        "by_position": [
            {"position": name, **_row(judged[rows])} for name, rows in _positions(judged)
        ],
        "by_length": [{"tokens": name, **_row(judged[rows])} for name, rows in _lengths(judged)],
    }
    if not are_probabilities:
        return found
    scores = judged.log_odds, judged.labels
    return found | {
        "log_loss": _with_interval(judged, lambda each: log_loss(each.log_odds, each.labels)),
        "brier": brier_score(*scores),
        "calibration_error": calibration_error(*scores),
        "log_loss_of_the_share": _entropy(judged.labels),
        "reliability": reliability(*scores),
    }


def first_errors(labels: Sequence[float | None]) -> list[bool]:
    """Return for each step of a solution whether no step before it is wrong."""
    found, so_far = list[bool](), True
    for label in labels:
        found.append(so_far)
        so_far = so_far and (label is None or label >= 0.5)
    return found


def _auroc(judged: Judged) -> float | None:
    return auroc(judged.log_odds, judged.labels)


def _with_interval(judged: Judged, figure: Callable[[Judged], float | None]) -> dict[str, Any]:
    return {"value": figure(judged), "interval": interval(judged, figure)}


def _row(judged: Judged) -> dict[str, Any]:
    right = float(np.mean(judged.labels)) if len(judged) else None
    return {"steps": len(judged), "right": right, "auroc": _auroc(judged)}


def _positions(judged: Judged) -> list[tuple[str, Array]]:
    """Return the steps by their place in a solution."""
    groups = [(str(n), judged.positions == n) for n in range(1, 5)]
    groups += [("5 to 8", (judged.positions > 4) & (judged.positions <= 8))]
    groups += [("9 and later", judged.positions > 8), ("last", judged.is_last)]
    return [(name, rows) for name, rows in groups if rows.any()]


def _lengths(judged: Judged) -> list[tuple[str, Array]]:
    """Return the steps in quarters by their number of tokens."""
    if not len(judged):
        return []
    bounds = [0, *np.unique(np.percentile(judged.lengths, [25, 50, 75, 100]).astype(int)).tolist()]
    groups = []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        rows = (judged.lengths > low) & (judged.lengths <= high)
        groups.append((f"{low + 1} to {high}", rows))
    return [(name, rows) for name, rows in groups if rows.any()]


def _entropy(labels: Array) -> float | None:
    """Return the log-loss of a score that is the share of right steps, whatever the step."""
    if not len(labels):
        return None
    share = float(np.mean(labels))
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)
