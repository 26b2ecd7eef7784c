r"""Votes: what a method answers, and how probable the right answer is to it.

A vote is of weighted answers. It is right as far as its leading answers are: ties are split, so
that the order of the solutions decides nothing.

Of K independent solutions of a question, those of N make K / N disjoint groups, over which votes of
N are averaged. That one of N is right needs no groups: its average over all choices is
`llmsmc.evaluation.runner.pass_at_k`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Final

import numpy as np

from llmsmc.grading.grades import equivalence_classes, grade

_TIED: Final = 1e-9  # relative

Answers = Sequence[str | None]
"""The answer of each solution, None where there is none."""


@dataclass(frozen=True)
class Vote:
    """The outcome of a vote.

    Attributes:
        right: the share of the leading answers that are right: 0 or 1 but for ties.
        probability: the share of the weight that the right answer has.
        leading: the share that the leading answer has; None where nothing was answered.
    """

    right: float
    probability: float
    leading: float | None


def vote(answers: Answers, weights: Sequence[float], reference: str) -> Vote:
    """Return the outcome of a vote with weights; without any weight nothing is answered."""
    total, masses = math.fsum(weights), dict[str, float]()
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None and weight > 0:
            masses[answer] = masses.get(answer, 0.0) + weight
    if not masses:
        return Vote(0.0, 0.0, None)
    most = max(masses.values())
    leading = [answer for answer, mass in masses.items() if mass >= (1 - _TIED) * most]
    right = [answer for answer in masses if is_right(answer, reference)]
    return Vote(
        fmean(answer in right for answer in leading),
        math.fsum(masses[answer] for answer in right) / total,
        most / total,
    )


def best(answers: Answers, log_scores: Sequence[float], reference: str) -> Vote:
    """Return the outcome of best of N: of the solutions of the highest score, each with a share.

    One without an answer is wrong.
    """
    most = max(log_scores)
    chosen = [a for a, score in zip(answers, log_scores, strict=True) if score >= most - _TIED]
    right = fmean(answer is not None and is_right(answer, reference) for answer in chosen)
    return Vote(right, right, None if all(answer is None for answer in chosen) else 1.0)


def mean_of(votes: Sequence[Vote]) -> tuple[float, float]:
    """Return the mean of what is right, and of the probability of the right answer."""
    return fmean(each.right for each in votes), fmean(each.probability for each in votes)


def groups(count: int, size: int) -> list[slice]:
    """Return the disjoint groups of so many among `count` solutions.

    >>> groups(10, 4)
    [slice(0, 4, None), slice(4, 8, None)]
    """
    return [slice(start, start + size) for start in range(0, count - size + 1, size)]


def told(answers: Answers) -> list[str | None]:
    """Return the answers with one spelling for all that say the same."""
    classes = equivalence_classes(answer for answer in answers if answer is not None)
    return [None if answer is None else classes[answer] for answer in answers]


@lru_cache(maxsize=1 << 16)
def is_right(answer: str, reference: str) -> bool:
    """Return whether an answer is right."""
    return grade(answer, reference) == "right"


def calibration_error(votes: Sequence[Vote], num_bins: int = 10) -> float | None:
    """Return the expected calibration error of the probability of the leading answer.

    Bins of it, weighed by their votes, of the distance between its mean and the share that is
    right; None where nothing was answered.
    """
    answered = [(each.leading, each.right) for each in votes if each.leading is not None]
    if not answered:
        return None
    said, right = (np.array(part, dtype=float) for part in zip(*answered, strict=True))
    which = np.minimum((said * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(which, said - right, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(answered))


def by_question(votes: Mapping[str, Sequence[Vote]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return for each question what is right and how probable the right answer is, over groups."""
    means = {name: mean_of(each) for name, each in votes.items()}
    return ({k: v[0] for k, v in means.items()}, {k: v[1] for k, v in means.items()})
