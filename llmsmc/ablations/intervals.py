r"""Means over problems, and 95 % intervals of differences.

The problems are the sample: the seeds of a problem are averaged first, so that many seeds of few
problems do not count as many problems.

A difference of two accuracies lies in [-1, 1]. With n differences $d_i$, one more of +1, one of -1,
each counted half, and one of 0, the interval is made of the mean and the variance of n + 2,

$$\bar d' \pm 1.96 \sqrt{s'^2 / (n + 2)}.$$

For single runs, right or wrong, this is the interval of Agresti and Min for matched pairs, which
has a width even where no pair differs. Other differences get the percentiles of a bootstrap.

Reference: Agresti, Min (2005). Simple improved confidence intervals for comparing matched
proportions.
"""

import math
from typing import Final

import numpy as np
from jaxtyping import Float

from llmsmc.evaluation.runner import wilson_interval

Values = Float[np.ndarray, " n"]
Interval = tuple[float, float]

_QUANTILE: Final = 1.959963984540054  # of the normal distribution, at 0.975
_NUM_RESAMPLES: Final = 10_000


def mean_and_error(values: Values) -> tuple[float, float | None]:
    """Return the mean over problems and its standard error; None for a single problem."""
    if len(values) < 2:
        return float(np.mean(values)), None
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def percent_with_error(share: float | None, error: float | None, num_problems: int) -> str:
    """Return a share in percent with its standard error, in words for tables.

    Outcomes that are all alike have an error of zero, and are no certainty: the 95 % interval of
    Wilson, of as many outcomes as there are problems, takes its place.
    """
    if share is None:
        return "-"
    if error is None:
        return f"{100 * share:.1f}"
    if error > 0:
        return f"{100 * share:.1f} ± {100 * error:.1f}"
    low, high = wilson_interval(share, num_problems)
    return f"{100 * share:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def bounded_interval(differences: Values) -> Interval:
    """Return the 95 % interval of the mean of differences in [-1, 1]; see above."""
    count = len(differences) + 2
    mean = float(differences.sum()) / count
    variance = (float((differences**2).sum()) + 1.0) / count - mean**2
    half = _QUANTILE * math.sqrt(variance / count)
    return mean - half, mean + half


def bootstrap_interval(differences: Values, seed: int = 0) -> Interval:
    """Return the 95 % interval of the mean of any differences: percentiles of a bootstrap."""
    generator = np.random.default_rng(seed)
    count = len(differences)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=_NUM_RESAMPLES)
    means = weights @ differences / count
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
