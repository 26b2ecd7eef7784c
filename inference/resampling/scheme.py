r"""What a resampling scheme is: from log-weights to ancestors and the log-weights that remain.

The contract, for N log-weights in and M out:

$$\mathbb{E}\Bigl[\sum_{m=1}^M w_\text{out}^m \, 1\{A^m = n\}\Bigr] = w_\text{in}^n.$$

Most schemes give the M offspring equal weights and preserve the mass exactly: logsumexp(out) =
logsumexp(in), never renormalised, so that the logsumexp of the carried log-weights is the
log-evidence at all times.

References:
    1. Douc, Cappé, Moulines (2005). Comparison of resampling schemes for particle filtering.
    2. Chopin, Papaspiliopoulos (2020). An Introduction to Sequential Monte Carlo, chapter 9.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.weights import Weights, log_evidence
from llmsmc.errors import DegenerateWeightsError, InputError


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


class WeightResampler:
    """A resampler that takes weights whose statistics are known; those of the library do."""

    def resample(
        self, weights: Weights, generator: Generator, num_offspring: int | None = None
    ) -> Resampled:
        """Resample; consumes `generator`."""
        raise NotImplementedError

    def __call__(
        self,
        log_weights: Float64[Tensor, " N"],
        *,
        generator: Generator,
        num_offspring: int | None = None,
    ) -> Resampled:
        """Resample one population; consumes `generator`."""
        return self.resample(Weights(log_weights), generator, num_offspring)


def resampled(resampler: Resampler, weights: Weights, generator: Generator) -> Resampled:
    """Resample weights whose statistics are known; consumes `generator`."""
    if isinstance(resampler, WeightResampler):
        return resampler.resample(weights, generator)
    return resampler(weights.log_weights, generator=generator)


Batched = Callable[[Tensor, int, Generator], Tensor]
"""A scheme for K populations: weights [K, N], no row of which is zero, to ancestors [K, M]."""

Conditional = Callable[[Tensor, Tensor, Generator], Tensor]
"""A scheme for K populations: weights [K, N] and the parent of slot 0 in each, to ancestors."""


@dataclass(frozen=True, repr=False)
class Scheme(WeightResampler):
    """A resampler with its forms: for one population, for many at once, and for particle Gibbs.

    ```python
    multinomial = Scheme("multinomial", batched=multinomial_rows)
    ancestors, log_weights, _ = multinomial(log_weights, generator=generator)
    ```

    Attributes:
        name: what it is called.
        batched: for K populations at once, whose offspring share the mass of theirs equally; None
            if populations are resampled one after the other.
        conditional: the law of `batched` in random order, given whose child slot 0 holds; None if
            the scheme cannot keep a reference (see `llmsmc.inference.resampling.conditional`).
        single: for one population; by default the batched form of one. A scheme whose offspring
            have unequal weights has this form alone.
        is_even: whether the numbers of offspring are fixed up to rounding, which leaves less
            variance.
        takes_vectors: whether `batched` also takes the weights of one population, `[N]`.
    """

    name: str
    batched: Batched | None = None
    conditional: Conditional | None = None
    single: Resampler | None = None
    is_even: bool = False
    takes_vectors: bool = False

    def __post_init__(self) -> None:
        """Check that there is a form."""
        if self.batched is None and self.single is None:
            raise InputError(
                f"A scheme draws ancestors. Got neither form for {self.name!r}; accepted: batched= "
                "or single=."
            )

    def __repr__(self) -> str:
        """Show which scheme it is."""
        return f"Scheme({self.name!r})"

    def resample(
        self, weights: Weights, generator: Generator, num_offspring: int | None = None
    ) -> Resampled:
        """Resample one population; consumes `generator`."""
        if self.single is not None:
            return self.single(
                weights.log_weights, generator=generator, num_offspring=num_offspring
            )
        assert self.batched is not None
        size = num_offspring or weights.log_weights.shape[0]
        if weights.max_weight == 0.0:
            raise DegenerateWeightsError(f"All {len(weights.log_weights)} weights are zero.")
        if self.takes_vectors:
            ancestors = self.batched(weights.scaled, size, generator)
        else:
            ancestors = self.batched(weights.scaled[None], size, generator)[0]
        return sharing(ancestors, weights.log_evidence)


def equally_weighted(
    ancestors: Int64[Tensor, " M"], log_weights: Float64[Tensor, " N"]
) -> Resampled:
    """Share the mass of `log_weights` equally among the offspring."""
    return sharing(ancestors, log_evidence(log_weights))


def sharing(ancestors: Int64[Tensor, " M"], log_mass: float) -> Resampled:
    """Give all offspring the same weight, so that together they have that mass."""
    size = ancestors.shape[0]
    return Resampled(ancestors, torch.full((size,), log_mass - math.log(size), dtype=torch.float64))


# Points on the line of the weights, and the particles that they hit.


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
    return _hit(num_below, weights, size)


# On vectors of a few thousand the calls of numpy cost a fraction of those of torch, and no sum is
# taken but by torch: the numbers are the same.


def inverse_cdf_of_spaced(
    weights: Float64[Tensor, "*K N"], offsets: Float64[Tensor, "*K 1"], size: int
) -> Int64[Tensor, "*K M"]:
    """Return `inverse_cdf` at the M points (i + offset) / M, i = 0..M-1, with one offset in [0, 1).

    Counts the points below each value of the distribution function. With offsets that are multiples
    of the spacing of the numbers near M, no difference is rounded.
    """
    expected, offset = _expected_below(weights, size), offsets.numpy()
    expected -= offset - offset % math.ulp(size)
    return _hit(np.ceil(expected, out=expected).astype(np.int64), weights, size)


def _expected_below(weights: Float64[Tensor, "*K N"], size: int) -> npt.NDArray[np.float64]:
    """Return the distribution function at each particle, times the number of points."""
    cumulative: npt.NDArray[np.float64] = weights.cumsum(-1).numpy()
    cumulative *= size / cumulative[..., -1:]
    return cumulative


def _hit(
    num_below: npt.NDArray[np.int64], weights: Float64[Tensor, "*K N"], size: int
) -> Int64[Tensor, "*K M"]:
    """Return for each of M points the particle that it hits: how many counts do not exceed it."""
    if (num_below[..., -1] != size).any():
        # From the last positive weight on all points are below; rounding missed one.
        np.minimum(num_below, size, out=num_below)
        num_below[np.arange(weights.shape[-1]) >= _last_positive(weights).numpy()] = size
    if num_below.ndim == 1:
        counts = np.bincount(num_below, minlength=size + 1)[:size]
        return torch.from_numpy(np.add.accumulate(counts, out=counts))
    *shape, _ = num_below.shape
    num_rows = math.prod(shape)
    num_below += np.arange(num_rows).reshape(*shape, 1) * (size + 1)
    found = np.bincount(num_below.ravel(), minlength=num_rows * (size + 1))
    return torch.from_numpy(found).view(*shape, size + 1).cumsum_(-1)[..., :size]


def _last_positive(weights: Float64[Tensor, "*K N"]) -> Int64[Tensor, "*K 1"]:
    places = torch.arange(weights.shape[-1])
    return torch.where(weights > 0, places, -1).amax(-1, keepdim=True)
