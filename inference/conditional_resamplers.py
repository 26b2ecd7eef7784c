r"""Resampling given that the first particle is the parent of the first offspring.

A conditional scheme has the law of an unconditional one whose offspring stand in random order,
given that slot 0 holds a child of particle 0. In that law the number of children of particle 0
is size-biased: n children are n times as likely to hold a given slot. The other slots come in
random order, so that no sorting favours any of them.

Plain schemes with the first ancestor overwritten do not have this law: where the ancestors are
sorted, that removes the smallest of them (`docs` on particle Gibbs has the size of the error).

References:
    1. Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods.
    2. Chopin, Singh (2015). On particle Gibbs sampling, section 3.
"""

import math
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.errors import InputError
from llmsmc.inference.adaptive import Adaptive
from llmsmc.inference.killing_resampler import killing
from llmsmc.inference.resamplers import (
    Resampled,
    Resampler,
    equally_weighted,
    inverse_cdf,
    inverse_cdf_of_strata,
    multinomial,
    residual,
    stratified,
    systematic,
    uniforms,
)
from llmsmc.weights import scaled


def conditional_multinomial(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Draw all ancestors but the first independently of each other."""
    size = num_offspring or len(log_weights)
    others = inverse_cdf(scaled(log_weights), uniforms(size - 1, generator))
    return equally_weighted(_behind_reference(others), log_weights)


def conditional_stratified(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Draw one point in each stratum, that at the end of particle 0 by the size-biased law."""
    weights, size = scaled(log_weights), num_offspring or len(log_weights)
    offsets = uniforms(size, generator)
    whole, point = _size_biased_offset(weights, size, generator)
    if whole < size:
        offsets[whole] = point
    return _shuffled(inverse_cdf_of_strata(weights, offsets), log_weights, generator)


def conditional_systematic(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Draw the common offset by the size-biased law."""
    weights, size = scaled(log_weights), num_offspring or len(log_weights)
    _, point = _size_biased_offset(weights, size, generator)
    offsets = torch.full((size,), point, dtype=torch.float64)
    return _shuffled(inverse_cdf_of_strata(weights, offsets), log_weights, generator)


def conditional_residual(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Let slot 0 be a sure child, or one of the drawn ones, which then is a child of particle 0."""
    weights = scaled(log_weights)
    size = num_offspring or len(log_weights)
    expected = weights * size / weights.sum()
    copies = expected.floor()
    sure = torch.arange(len(weights)).repeat_interleave(copies.long())
    num_drawn = size - len(sure)
    is_drawn = bool(uniforms(1, generator) * expected[0] >= copies[0]) and num_drawn > 0
    points = uniforms(num_drawn - is_drawn, generator)
    drawn = inverse_cdf(expected - copies, points) if len(points) else sure[:0]
    first = torch.zeros(int(is_drawn), dtype=torch.int64)
    return _shuffled(torch.cat([first, sure, drawn]), log_weights, generator)


def conditional_killing(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    r"""Let another slot than 0 have taken its child in, rotated there.

    Unconditionally the slots are rotated at random; the child in slot 0 came from slot j with
    probability $P(A^j = 0) / (N W^0)$.
    """
    weights = scaled(log_weights)
    resampled = killing(log_weights, generator=generator, num_offspring=num_offspring)
    replaced = (1 - weights) * weights[0] / weights.sum()  # slot j is killed and redrawn as 0
    replaced[0] += weights[0]
    slot = int(inverse_cdf(replaced, uniforms(1, generator)))
    ancestors = resampled.ancestors.clone()
    ancestors[slot] = 0
    return resampled._replace(ancestors=ancestors.roll(-slot))


def conditional(resampler: Resampler) -> Resampler:
    """Return the conditional version of a scheme, or of an `Adaptive` one around it.

    Raises:
        InputError: the scheme has none.
    """
    if isinstance(resampler, Adaptive):
        return replace(resampler, resampler=conditional(resampler.resampler))
    if resampler not in _CONDITIONAL:
        names = ", ".join(getattr(scheme, "__name__", "") for scheme in _CONDITIONAL)
        raise InputError(
            "A reference is kept by conditional resampling. Got "
            f"{getattr(resampler, '__name__', resampler)!r}; accepted: {names}."
        )
    return _CONDITIONAL[resampler]


_CONDITIONAL: Final[dict[Resampler, Resampler]] = {
    multinomial: conditional_multinomial,
    residual: conditional_residual,
    stratified: conditional_stratified,
    systematic: conditional_systematic,
    killing: conditional_killing,
}


def _size_biased_offset(
    weights: Float64[Tensor, " N"], size: int, generator: Generator
) -> tuple[int, float]:
    r"""Return f, and the offset of the stratum that particle 0 fills in part.

    Particle 0 expects x = f + rho offspring: f for sure, and one more if the offset u is below
    rho, which given a child in slot 0 has probability $\rho (f + 1) / x$.
    """
    expected = float(weights[0] * size / weights.sum())
    whole = min(math.floor(expected), size)
    fraction = expected - whole
    chance, point = uniforms(2, generator).tolist()
    if chance * expected < fraction * (whole + 1):
        return whole, point * fraction
    return whole, fraction + point * (1 - fraction)


def _shuffled(
    ancestors: Int64[Tensor, " M"], log_weights: Float64[Tensor, " N"], generator: Generator
) -> Resampled:
    """Put a child of particle 0, of which there is one, first, and all others in random order."""
    first = int((ancestors == 0).nonzero()[0])
    others = torch.cat([ancestors[:first], ancestors[first + 1 :]])
    order = uniforms(len(others), generator).argsort()
    return equally_weighted(_behind_reference(others[order]), log_weights)


def _behind_reference(others: Int64[Tensor, " K"]) -> Int64[Tensor, " K+1"]:
    return torch.cat([torch.zeros(1, dtype=torch.int64), others])
