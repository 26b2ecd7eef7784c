r"""Resampling schemes: functions from log-weights to ancestors and the log-weights that remain.

The contract, for N log-weights in and M out:

$$\mathbb{E}\Bigl[\sum_{m=1}^M w_\text{out}^m \, 1\{A^m = n\}\Bigr] = w_\text{in}^n.$$

All schemes of this module give the M offspring equal weights and preserve the mass exactly:
logsumexp(out) = logsumexp(in), never renormalised, so that the logsumexp of the carried
log-weights is the log-evidence at all times.

References:
    1. Douc, Cappé, Moulines (2005). Comparison of resampling schemes for particle filtering.
    2. Chopin, Papaspiliopoulos (2020). An Introduction to Sequential Monte Carlo, chapter 9.
"""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.weights import log_evidence, scaled


class Resampled(NamedTuple):
    """What a resampler returns.

    Attributes:
        ancestors: the parents of the M offspring.
        log_weights: the log-weights that the offspring start with.
        resampled: False if every particle is its own parent and keeps its log-weight.
    """

    ancestors: Int64[Tensor, " M"]
    log_weights: Float64[Tensor, " M"]
    resampled: bool = True


@runtime_checkable
class Resampler(Protocol):
    """A function from N log-weights to M = `num_offspring` ancestors (N if None)."""

    def __call__(
        self,
        log_weights: Float64[Tensor, " N"],
        *,
        generator: Generator,
        num_offspring: int | None = None,
    ) -> Resampled:
        """Resample; consumes `generator`."""
        ...


def multinomial(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Draw the ancestors independently of each other; they are not sorted."""
    size = num_offspring or len(log_weights)
    ancestors = inverse_cdf(scaled(log_weights), uniforms(size, generator))
    return equally_weighted(ancestors, log_weights)


def residual(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    r"""Give particle n its $\lfloor M W^n \rfloor$ offspring for sure, and draw only the rest."""
    weights = scaled(log_weights)
    size = num_offspring or len(log_weights)
    expected = weights * size / weights.sum()
    copies = expected.floor()
    ancestors = torch.arange(len(weights)).repeat_interleave(copies.long())
    if len(ancestors) < size:
        rest = inverse_cdf(expected - copies, uniforms(size - len(ancestors), generator))
        ancestors = torch.cat([ancestors, rest])
    return equally_weighted(ancestors, log_weights)


def stratified(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Invert the distribution function at one uniform point in each of M equal strata."""
    size = num_offspring or len(log_weights)
    ancestors = inverse_cdf_of_strata(scaled(log_weights), uniforms(size, generator))
    return equally_weighted(ancestors, log_weights)


def systematic(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    r"""Invert the distribution function at M equally spaced points with one common offset.

    Particle n has $\lfloor M W^n \rfloor$ or $\lceil M W^n \rceil$ offspring.
    """
    size = num_offspring or len(log_weights)
    ancestors = inverse_cdf_of_strata(scaled(log_weights), uniforms(1, generator).expand(size))
    return equally_weighted(ancestors, log_weights)


def equally_weighted(
    ancestors: Int64[Tensor, " M"], log_weights: Float64[Tensor, " N"]
) -> Resampled:
    """Share the mass of `log_weights` equally among the offspring."""
    share = log_evidence(log_weights) - math.log(len(ancestors))
    return Resampled(ancestors, torch.full((len(ancestors),), share, dtype=torch.float64))


def uniforms(count: int, generator: Generator) -> Float64[Tensor, " count"]:
    """Draw from [0, 1); consumes `generator`."""
    device = generator.device
    return torch.rand(count, generator=generator, dtype=torch.float64, device=device).cpu()


def inverse_cdf(
    weights: Float64[Tensor, " N"], points: Float64[Tensor, " M"]
) -> Int64[Tensor, " M"]:
    """Return, for each u in [0, 1), the smallest j with w_0 + ... + w_j > u (w_0 + ... + w_N-1).

    The comparison is strict, so that u = 0 does not hit a leading weight of zero; u so close to
    one that the product rounds up to the total gets the last positive weight.
    """
    cumulative = weights.cumsum(0)
    indices = torch.searchsorted(cumulative, points * cumulative[-1], right=True)
    return indices.clamp(max=_last_positive(weights))


def inverse_cdf_of_strata(
    weights: Float64[Tensor, " N"], offsets: Float64[Tensor, " M"]
) -> Int64[Tensor, " M"]:
    r"""Return `inverse_cdf` at the M points (i + offset_i) / M, i = 0..M-1, offsets in [0, 1).

    Counts the points below each value of the distribution function instead of looking each of
    them up: with $x = M (w_0 + \dots + w_j) / (w_0 + \dots + w_{N-1})$, point i is below if
    $i + u_i < x$; these are the points $i < \lfloor x \rfloor$, and $i = \lfloor x \rfloor$ if
    its offset is below the fraction $x - \lfloor x \rfloor$. No i + u_i is ever rounded.
    """
    size = len(offsets)
    cumulative = weights.cumsum(0)
    scaled_cumulative = (cumulative * size / cumulative[-1]).clamp(max=size)
    whole = scaled_cumulative.floor()
    index = whole.long().clamp(max=size - 1)
    num_below = whole.long() + (scaled_cumulative - whole > offsets[index]).long()
    num_below[_last_positive(weights) :] = size
    num_offspring = num_below.diff(prepend=torch.zeros(1, dtype=torch.int64))
    return torch.arange(len(weights)).repeat_interleave(num_offspring)


def _last_positive(weights: Float64[Tensor, " N"]) -> int:
    return int(weights.nonzero()[-1])
