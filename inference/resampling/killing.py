r"""Killing: a particle survives with probability $W^n / \max_m W^m$; the dead are replaced.

The heaviest particle always survives, and equal weights stay unchanged. The number of offspring
equals the number of particles.

Reference: Del Moral (2004). Feynman-Kac Formulae, section 2.5.2.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.errors import InputError
from llmsmc.inference.resampling.resamplers import Resampled, inverse_cdf, one_population, uniforms


def killing(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Keep each particle in its place, or replace it by a particle drawn by the weights."""
    size = len(log_weights)
    if num_offspring not in (None, size):
        raise InputError(
            "Killing replaces particles in their places. Got num_offspring="
            f"{num_offspring} for {size} particles; accepted: None or {size}."
        )
    return one_population(killing_rows, log_weights, generator, None)


def killing_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K N"]:
    """Apply the scheme to K populations at once."""
    survives = uniforms(weights.shape, generator) * weights.amax(1, keepdim=True) < weights
    drawn = inverse_cdf(weights, uniforms(weights.shape, generator))
    return torch.where(survives, torch.arange(size), drawn)
