"""Thresholds for statistical tests, all with fixed seeds.

The suite as a whole is to fail once in 50 000 times for a correct library: a two-sided |z| of 5.2
for some hundred comparisons, 5.6 for some thousand.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_Z = 5.2
"""For a test with one comparison, one of about a hundred such tests."""

MAX_Z_OF_MANY = 5.6
"""For the largest of the comparisons of a test that makes many."""


def z_scores(replicates: Sequence[float] | Tensor, exact: float | Tensor) -> Tensor:
    """How many standard errors the mean of independent replicates `[R, ...]` is off."""
    values = torch.as_tensor(replicates, dtype=torch.float64)
    error = values.std(0) / len(values) ** 0.5
    z: Tensor = (values.mean(0) - torch.as_tensor(exact)) / error.clamp(min=1e-12)
    return z


def chi_square_p_value(counts: Tensor, expected: Tensor, degrees_of_freedom: int) -> float:
    """How likely counts are to be that far from the expected ones, or farther."""
    statistic = ((counts - expected).square() / expected).sum()
    half = torch.tensor(degrees_of_freedom / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half, statistic / 2))


def z_score(replicates: Sequence[float] | Tensor, exact: float) -> float:
    return float(z_scores(replicates, exact))
