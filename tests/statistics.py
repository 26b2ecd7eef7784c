"""Thresholds for statistical tests, all with fixed seeds.

The suite as a whole is to fail once in 50 000 times for a correct library: a two-sided |z| of 5.2
for some hundred comparisons, 5.6 for some thousand.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from llmsmc.testing.replicates import z_scores as exact_z_scores

MAX_Z = 5.2
"""For a test with one comparison, one of about a hundred such tests."""

MAX_Z_OF_MANY = 5.6
"""For the largest of the comparisons of a test that makes many."""


def z_scores(replicates: Sequence[float] | Tensor, exact: float | Tensor) -> Tensor:
    """How many standard errors the mean of independent replicates `[R, ...]` is off."""
    values = torch.as_tensor(replicates, dtype=torch.float64)
    return exact_z_scores(values, torch.as_tensor(exact))


def chi_square_p_value(counts: Tensor, expected: Tensor, degrees_of_freedom: int) -> float:
    """How likely counts are to be that far from the expected ones, or farther."""
    statistic = ((counts - expected).square() / expected).sum()
    half = torch.tensor(degrees_of_freedom / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half, statistic / 2))


def p_value_of_law(counts: Tensor, law: Tensor) -> float:
    """Of the chi-square statistic of outcomes `[K]` under a law; rare ones together."""
    expected = counts.sum() * law
    frequent = expected > 20
    counts = torch.cat([counts[frequent], counts[~frequent].sum(0, keepdim=True)])
    expected = torch.cat([expected[frequent], expected[~frequent].sum(0, keepdim=True)])
    kept = expected > 0
    return chi_square_p_value(counts[kept], expected[kept], int(kept.sum()) - 1)


def z_score(replicates: Sequence[float] | Tensor, exact: float) -> float:
    return float(z_scores(replicates, exact))
