r"""Resampling given the parent of the first offspring.

A conditional scheme has the distribution of the unconditional scheme with offspring in random
order, given that slot 0 holds a child of the parent. In that distribution the number of the
parent's children is size-biased: n children are n times as likely to hold a given slot. The other
slots are in random order, so that no sorting favours any of them.

Where the reference of a conditional run takes a new past, the end of that past is the parent. It is
drawn first, with all other ancestors integrated out; the other ancestors are then drawn given it.

A plain scheme with its first ancestor overwritten does not have this distribution: where the
ancestors are sorted, overwriting removes the smallest of them (docs/exactness.md has the size of
the error).

References:
    1. Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods.
    2. Chopin, Singh (2015). On particle Gibbs sampling, section 3.
"""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.errors import InputError
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.killing import killing, killing_rows
from llmsmc.inference.resampling.resamplers import (
    Resampler,
    inverse_cdf,
    inverse_cdf_of_strata,
    multinomial,
    multinomial_rows,
    residual,
    residual_rows,
    stratified,
    systematic,
    uniforms,
)

ConditionalRows = Callable[[Tensor, Tensor, Generator], Tensor]
"""A scheme for K populations: from weights [K, N] and the parents of slots 0, to ancestors."""


def conditional_multinomial(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Draw all ancestors but the first independently of each other."""
    return _led_by(parents, multinomial_rows(weights, weights.shape[1] - 1, generator))


def conditional_stratified(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Let the point of one stratum fall on the parent; the other points are free."""
    strata, offset = _point_on(parents, weights, generator)
    offsets = uniforms(weights.shape, generator).scatter(1, strata, offset)
    ancestors = inverse_cdf_of_strata(weights, offsets)
    return _led_by(parents, _shuffled(_without(strata, ancestors), generator))


def conditional_systematic(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Let the point of one stratum fall on the parent, which fixes the common offset."""
    strata, offset = _point_on(parents, weights, generator)
    ancestors = inverse_cdf_of_strata(weights, offset.expand(weights.shape).contiguous())
    return _led_by(parents, _shuffled(_without(strata, ancestors), generator))


def conditional_residual(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Let slot 0 hold a certain child of the parent, or the last drawn child."""
    size = weights.shape[1]
    expected = weights * size / weights.sum(1, keepdim=True)
    copies = expected.floor()
    ancestors = residual_rows(weights, size, generator)
    child, sure = expected.gather(1, parents[:, None]), copies.gather(1, parents[:, None])
    is_drawn = uniforms((len(weights), 1), generator) * child >= sure
    is_drawn &= copies.sum(1, keepdim=True) < size
    first = torch.where(is_drawn, size - 1, (ancestors == parents[:, None]).long().argmax(1, True))
    return _led_by(parents, _shuffled(_without(first, ancestors), generator))


def conditional_killing(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    r"""Let another slot than 0 have taken the parent's child in, rotated there.

    Unconditionally the slots are rotated at random; the child in slot 0 came from slot j with
    probability $P(A^j = n) / (N W^n)$, where n is the parent.
    """
    size, own = weights.shape[1], parents[:, None]
    ancestors = killing_rows(weights, size, generator)
    survival = weights / weights.amax(1, keepdim=True)
    # Slot j is killed and given to the parent, or it is the surviving parent's own slot.
    given = (1 - survival) * (weights / weights.sum(1, keepdim=True)).gather(1, own)
    given = given.scatter_add(1, own, survival.gather(1, own))
    slot = inverse_cdf(given, uniforms((len(weights), 1), generator))
    ancestors = ancestors.scatter(1, slot, own)
    return ancestors.gather(1, (torch.arange(size) + slot) % size)


def conditional(resampler: Resampler) -> ConditionalRows:
    """Return the conditional version of a scheme, or of the scheme inside an `Adaptive`.

    Raises:
        InputError: the scheme has no conditional version.
    """
    if isinstance(resampler, Adaptive):
        return conditional(resampler.resampler)
    if resampler not in _CONDITIONAL:
        names = ", ".join(getattr(scheme, "__name__", "") for scheme in _CONDITIONAL)
        raise InputError(
            "A reference is kept by conditional resampling. Got "
            f"{getattr(resampler, '__name__', resampler)!r}; accepted: {names}."
        )
    return _CONDITIONAL[resampler]


_CONDITIONAL: Final[dict[Resampler, ConditionalRows]] = {
    multinomial: conditional_multinomial,
    residual: conditional_residual,
    stratified: conditional_stratified,
    systematic: conditional_systematic,
    killing: conditional_killing,
}


def _point_on(
    parents: Int64[Tensor, " K"], weights: Float64[Tensor, "K N"], generator: Generator
) -> tuple[Int64[Tensor, "K 1"], Float64[Tensor, "K 1"]]:
    """Draw a point on the parent's part of the line of N strata.

    Slot 0 holds each of the N points equally often. Given the parent, its point is therefore
    uniform on the parent's part. Returns the stratum of the point, and its offset within the
    stratum.
    """
    size, own = weights.shape[1], parents[:, None]
    scale = size / weights.sum(1, keepdim=True)
    right = weights.cumsum(1).gather(1, own) * scale
    length = weights.gather(1, own) * scale
    point = (right - uniforms((len(weights), 1), generator) * length).clamp(min=0.0)
    strata = point.floor().long().clamp(max=size - 1)
    return strata, (point - strata).clamp(max=1.0 - 2.0**-53)


def _without(
    columns: Int64[Tensor, "K 1"], ancestors: Int64[Tensor, "K N"]
) -> Int64[Tensor, "K N-1"]:
    """Leave out one entry of each row."""
    places = torch.arange(ancestors.shape[1] - 1).expand(len(ancestors), -1)
    return ancestors.gather(1, places + (places >= columns))


def _shuffled(ancestors: Int64[Tensor, "K M"], generator: Generator) -> Int64[Tensor, "K M"]:
    """Put each row into random order."""
    return ancestors.gather(1, uniforms(ancestors.shape, generator).argsort(1))


def _led_by(parents: Int64[Tensor, " K"], others: Int64[Tensor, "K M"]) -> Int64[Tensor, "K N"]:
    return torch.cat([parents[:, None], others], dim=1)
