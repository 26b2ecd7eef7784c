"""Stratified resampling: one uniform point in each of M equal strata."""

from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.inference.resampling.conditional import led_by, point_on, shuffled, without
from llmsmc.inference.resampling.scheme import Scheme, inverse_cdf_of_strata, uniforms


def stratified_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K M"]:
    """Draw one point in each stratum."""
    return inverse_cdf_of_strata(weights, uniforms((len(weights), size), generator))


def conditional_stratified(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Let the point of one stratum fall on the parent; those of all others are free."""
    strata, offset = point_on(parents, weights, generator)
    offsets = uniforms(weights.shape, generator).scatter(1, strata, offset)
    ancestors = inverse_cdf_of_strata(weights, offsets)
    return led_by(parents, shuffled(without(strata, ancestors), generator))


stratified = Scheme("stratified", stratified_rows, conditional_stratified, is_even=True)
"""Invert the distribution function at one uniform point in each of M equal strata."""
