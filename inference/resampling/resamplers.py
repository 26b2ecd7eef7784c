r"""Resampling schemes: functions from log-weights to ancestors and outgoing log-weights.

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
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.weights import log_evidence, relative


class Resampled(NamedTuple):
    """The result of a resampler.

    Attributes:
        ancestors: the parents of the M offspring.
        log_weights: the log-weights of the offspring.
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
    return one_population(multinomial_rows, log_weights, generator, num_offspring)


def residual(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    r"""Give particle n $\lfloor M W^n \rfloor$ certain offspring, and draw only the rest."""
    return one_population(residual_rows, log_weights, generator, num_offspring)


def stratified(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Invert the distribution function at one uniform point in each of M equal strata."""
    return one_population(stratified_rows, log_weights, generator, num_offspring)


def systematic(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    r"""Invert the distribution function at M equally spaced points with one common offset.

    Particle n has $\lfloor M W^n \rfloor$ or $\lceil M W^n \rceil$ offspring.
    """
    size = num_offspring or log_weights.shape[0]
    found = relative(log_weights).alive()
    offset = uniforms(1, generator).numpy()
    ancestors = _hit(_num_below_spaced(found.weights, offset, size), size)
    return _sharing(ancestors, found.log_evidence)


# Forms of the schemes for K populations at once, from weights [K, N] to ancestors [K, M].

Rows = Callable[[Tensor, int, Generator], Tensor]
"""A scheme for K populations: weights [K, N], no row of which is zero, to ancestors [K, M]."""


def multinomial_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K M"]:
    """Draw the ancestors independently of each other."""
    return inverse_cdf(weights, uniforms((len(weights), size), generator))


def residual_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K M"]:
    """Put the certain offspring first, and draw the others."""
    expected = weights * size / weights.sum(1, keepdim=True)
    copies = expected.floor()
    rest = expected - copies
    # A row without a remainder has no draws, so its distribution does not matter.
    rest = torch.where(rest.amax(1, keepdim=True) > 0, rest, weights)
    drawn = inverse_cdf(rest, uniforms((len(weights), size), generator))
    places = torch.arange(size).expand(len(weights), -1).contiguous()
    sure = torch.searchsorted(copies.long().cumsum(1), places, right=True)
    return torch.where(places < copies.sum(1, keepdim=True), sure, drawn)


def stratified_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K M"]:
    """Draw one point in each stratum."""
    return inverse_cdf_of_strata(weights, uniforms((len(weights), size), generator))


def systematic_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K M"]:
    """Draw one offset for all strata of a population."""
    offsets = uniforms((len(weights), 1), generator).numpy()
    return _hit(_num_below_spaced(weights, offsets, size), size)


def one_population(
    rows: Rows,
    log_weights: Float64[Tensor, " N"],
    generator: Generator,
    num_offspring: int | None,
) -> Resampled:
    """Resample a single population, and share its mass equally among the offspring."""
    size = num_offspring or log_weights.shape[0]
    found = relative(log_weights).alive()
    return _sharing(rows(found.weights[None], size, generator)[0], found.log_evidence)


def equally_weighted(
    ancestors: Int64[Tensor, " M"], log_weights: Float64[Tensor, " N"]
) -> Resampled:
    """Share the mass of `log_weights` equally among the offspring."""
    return _sharing(ancestors, log_evidence(log_weights))


def uniforms(shape: int | tuple[int, ...], generator: Generator) -> Float64[Tensor, "..."]:
    """Draw from [0, 1); consumes `generator`."""
    device = generator.device
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=device).cpu()


def inverse_cdf(
    weights: Float64[Tensor, "*K N"], points: Float64[Tensor, "*K M"]
) -> Int64[Tensor, "*K M"]:
    """Return, for each u in [0, 1), the smallest j with w_0 + ... + w_j > u (w_0 + ... + w_N-1).

    The comparison is strict, so that u = 0 does not hit a leading weight of zero; u so close to
    one that the product rounds up to the total gets the last positive weight.
    """
    cumulative = weights.cumsum(-1)
    indices = torch.searchsorted(cumulative, points * cumulative[..., -1:], right=True)
    return torch.minimum(indices, _last_positive(weights))


def inverse_cdf_of_strata(
    weights: Float64[Tensor, "*K N"], offsets: Float64[Tensor, "*K M"]
) -> Int64[Tensor, "*K M"]:
    r"""Return `inverse_cdf` at the M points (i + offset_i) / M, i = 0..M-1, offsets in [0, 1).

    Counts the points below each value of the distribution function instead of looking each of
    them up: with $x = M (w_0 + \dots + w_j) / (w_0 + \dots + w_{N-1})$, point i is below if
    $i + u_i < x$; these are the points $i < \lfloor x \rfloor$, and $i = \lfloor x \rfloor$ if
    its offset is below the fraction $x - \lfloor x \rfloor$. No i + u_i is ever rounded.
    """
    size = offsets.shape[-1]
    expected = _expected_below(weights, size)
    whole = np.floor(np.minimum(expected, size, out=expected))
    fraction, num_below = expected - whole, whole.astype(np.int64)
    own = np.take_along_axis(offsets.numpy(), np.minimum(num_below, size - 1), -1)
    num_below += fraction > own
    return _hit(_complete(num_below, weights, size), size)


# On vectors of a few thousand the calls of numpy cost a fraction of those of torch, and no sum is
# taken but by torch: the numbers are the same.

Counts = npt.NDArray[np.int64]


def _num_below_spaced(
    weights: Float64[Tensor, "*K N"], offsets: npt.NDArray[np.float64], size: int
) -> Counts:
    """Count the points i + u, i = 0..M-1, below each value of the distribution function.

    With offsets that are multiples of the spacing of the numbers near M, no difference is rounded.
    """
    expected = _expected_below(weights, size)
    expected -= offsets - offsets % math.ulp(size)
    return _complete(np.ceil(expected, out=expected).astype(np.int64), weights, size)


def _expected_below(weights: Float64[Tensor, "*K N"], size: int) -> npt.NDArray[np.float64]:
    """Return the distribution function at each particle, times the number of points."""
    cumulative: npt.NDArray[np.float64] = weights.cumsum(-1).numpy()
    cumulative *= size / cumulative[..., -1:]
    return cumulative


def _complete(num_below: Counts, weights: Float64[Tensor, "*K N"], size: int) -> Counts:
    """Count all points as below from the last positive weight on, where rounding missed one."""
    if (num_below[..., -1] != size).any():
        np.minimum(num_below, size, out=num_below)
        num_below[np.arange(weights.shape[-1]) >= _last_positive(weights).numpy()] = size
    return num_below


def _hit(num_below: Counts, size: int) -> Int64[Tensor, "*K M"]:
    """Return the particle that each of M points hits, the number of counts not above the point."""
    if num_below.ndim == 1:
        return torch.from_numpy(np.bincount(num_below, minlength=size + 1)[:size].cumsum())
    *shape, length = num_below.shape
    num_rows = math.prod(shape)
    shifts = np.arange(num_rows).reshape(*shape, 1) * (size + 1)
    found = np.bincount((num_below + shifts).reshape(-1), minlength=num_rows * (size + 1))
    return torch.from_numpy(found).view(*shape, size + 1).cumsum_(-1)[..., :size]


def _sharing(ancestors: Int64[Tensor, " M"], log_mass: float) -> Resampled:
    size = ancestors.shape[0]
    return Resampled(ancestors, torch.full((size,), log_mass - math.log(size), dtype=torch.float64))


def _last_positive(weights: Float64[Tensor, "*K N"]) -> Int64[Tensor, "*K 1"]:
    places = torch.arange(weights.shape[-1])
    return torch.where(weights > 0, places, -1).amax(-1, keepdim=True)
