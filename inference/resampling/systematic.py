"""Systematic resampling: M equally spaced points with one common offset."""

from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.inference.resampling.conditional import led_by, point_on, shuffled, without
from llmsmc.inference.resampling.scheme import (
    Scheme,
    inverse_cdf_of_spaced,
    inverse_cdf_of_strata,
    uniforms,
)


def systematic_rows(
    weights: Float64[Tensor, "*K N"], size: int, generator: Generator
) -> Int64[Tensor, "*K M"]:
    """Draw one offset for all strata of a population."""
    shape = 1 if weights.dim() == 1 else (len(weights), 1)
    return inverse_cdf_of_spaced(weights, uniforms(shape, generator), size)


def conditional_systematic(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Let the point of one stratum fall on the parent, which fixes the offset of all others."""
    strata, offset = point_on(parents, weights, generator)
    ancestors = inverse_cdf_of_strata(weights, offset.expand(weights.shape).contiguous())
    return led_by(parents, shuffled(without(strata, ancestors), generator))


systematic = Scheme(
    "systematic", systematic_rows, conditional_systematic, is_even=True, takes_vectors=True
)
r"""Invert the distribution function at M equally spaced points with one common offset.

Particle n has $\lfloor M W^n \rfloor$ or $\lceil M W^n \rceil$ offspring.
"""
