"""Measures of the embedded models: accuracy by level, and the discrimination of rewards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmsmc.models.minimath.checker import num_correct_steps
from llmsmc.models.minimath.problem import Problem

Sample = tuple[Problem, tuple[str, ...]]


@dataclass(frozen=True)
class StepAccuracy:
    """The accuracy of a policy's samples at one level.

    Attributes:
        num_samples: the number of samples.
        solved: share that ends in the right answer.
        clean: share in which every step is right.
        step: share of right steps among those up to and with the first error.
    """

    num_samples: int
    solved: float
    clean: float
    step: float


def step_accuracy(samples: Iterable[Sample]) -> dict[int, StepAccuracy]:
    """Measure samples, by level."""
    by_level: dict[int, list[tuple[bool, int, int]]] = {}
    for problem, steps in samples:
        right = num_correct_steps(problem, steps)
        solved = bool(steps) and f"\\boxed{{{problem.answer}}}" in steps[-1]
        by_level.setdefault(problem.level, []).append((solved, right, len(steps)))
    return {
        level: StepAccuracy(
            len(rows),
            sum(solved for solved, _, _ in rows) / len(rows),
            sum(right == total for _, right, total in rows) / len(rows),
            sum(right for _, right, _ in rows)
            / max(1, sum(min(right + 1, total) for _, right, total in rows)),
        )
        for level, rows in sorted(by_level.items())
    }


@dataclass(frozen=True)
class Discrimination:
    """The discrimination of right steps from wrong ones by rewards.

    Attributes:
        auroc_up_to_first_error: area under the ROC curve over the steps of each solution up to
            and with its first error, the figure that counts.
        auroc_all_steps: over all steps; it flatters, since later steps are known to be bad.
        log_loss: mean negative log-likelihood of the labels, steps up to the first error, nats.
        expected_calibration_error: mean distance of the predicted from the observed share, over
            ten bins of equal count, same steps.
        bins: (mean reward, share of right steps, number of steps) of each bin.
    """

    auroc_up_to_first_error: float
    auroc_all_steps: float
    log_loss: float
    expected_calibration_error: float
    bins: tuple[tuple[float, float, int], ...]


def discrimination(
    samples: Sequence[Sample], rewards: Sequence[Sequence[float]], num_bins: int = 10
) -> Discrimination:
    """Compare rewards (one a step) with the checker's verdicts on each prefix."""
    near: list[tuple[float, bool]] = []
    every: list[tuple[float, bool]] = []
    for (problem, steps), scores in zip(samples, rewards, strict=True):
        right = num_correct_steps(problem, steps)
        rows = [(float(score), index < right) for index, score in enumerate(scores)]
        every += rows
        near += rows[: right + 1]
    score, label = _columns(near)
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    log_loss = -np.where(label, np.log(clipped), np.log1p(-clipped)).mean()
    bins = []
    for chosen in np.array_split(np.argsort(score, kind="stable"), num_bins):
        if len(chosen):
            bins.append((float(score[chosen].mean()), float(label[chosen].mean()), len(chosen)))
    error = sum(abs(mean - share) * count for mean, share, count in bins) / len(near)
    return Discrimination(
        auroc(score, label),
        auroc(*_columns(every)),
        float(log_loss),
        float(error),
        tuple(bins),
    )


def _columns(rows: list[tuple[float, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return np.array([score for score, _ in rows]), np.array([label for _, label in rows])


def auroc(score: NDArray[np.float64], label: NDArray[np.bool_]) -> float:
    """Return the probability that a right step scores above a wrong one, ties counted half.

    The Mann-Whitney statistic by mid-ranks. NaN where all labels are alike.
    """
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives, negatives = int(label.sum()), int((~label).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    total = ranks[label].sum() - positives * (positives + 1) / 2
    return float(total / (positives * negatives))
