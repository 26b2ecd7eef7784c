r"""Killing: a particle survives with probability $W^n / \max_m W^m$; the dead are replaced.

The largest particle always survives, and equal weights are left alone. It needs as many offspring
as there are particles.

Reference: Del Moral (2004). Feynman-Kac Formulae, section 2.5.2.
"""

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.errors import InputError
from llmsmc.inference.resamplers import Resampled, equally_weighted, inverse_cdf, uniforms
from llmsmc.weights import scaled


def killing(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Keep each particle in its place, or put one there that is drawn by the weights."""
    weights = scaled(log_weights)
    size = len(weights)
    if num_offspring not in (None, size):
        raise InputError(
            "Killing replaces particles in their places. Got num_offspring="
            f"{num_offspring} for {size} particles; accepted: None or {size}."
        )
    survives = uniforms(size, generator) < weights
    drawn = inverse_cdf(weights, uniforms(size, generator))
    return equally_weighted(torch.where(survives, torch.arange(size), drawn), log_weights)
