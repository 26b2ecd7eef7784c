"""Multinomial resampling: the ancestors are drawn independently of each other."""

from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.inference.resampling.conditional import led_by
from llmsmc.inference.resampling.scheme import Scheme, inverse_cdf, uniforms


def multinomial_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K M"]:
    """Draw the ancestors independently of each other."""
    return inverse_cdf(weights, uniforms((len(weights), size), generator))


def conditional_multinomial(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Draw all ancestors but the first independently of each other."""
    return led_by(parents, multinomial_rows(weights, weights.shape[1] - 1, generator))


multinomial = Scheme("multinomial", multinomial_rows, conditional_multinomial)
"""Draw the ancestors independently of each other; they are not sorted."""
