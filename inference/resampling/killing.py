r"""Killing: a particle survives with probability $W^n / \max_m W^m$; the dead are replaced.

The heaviest particle always survives, and equal weights stay unchanged. The number of offspring
equals the number of particles.

Reference: Del Moral (2004). Feynman-Kac Formulae, section 2.5.2.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.errors import InputError
from llmsmc.inference.resampling.scheme import Scheme, inverse_cdf, uniforms


def killing_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K N"]:
    """Keep each particle in its place, or replace it by a particle drawn by the weights."""
    if size != weights.shape[1]:
        raise InputError(
            f"Killing replaces particles in their places. Got num_offspring={size} for "
            f"{weights.shape[1]} particles; accepted: None or {weights.shape[1]}."
        )
    survives = uniforms(weights.shape, generator) * weights.amax(1, keepdim=True) < weights
    drawn = inverse_cdf(weights, uniforms(weights.shape, generator))
    return torch.where(survives, torch.arange(size), drawn)


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
    # Slot j is killed and given to the parent; or it is the parent's own, who survives.
    given = (1 - survival) * (weights / weights.sum(1, keepdim=True)).gather(1, own)
    given = given.scatter_add(1, own, survival.gather(1, own))
    slot = inverse_cdf(given, uniforms((len(weights), 1), generator))
    ancestors = ancestors.scatter(1, slot, own)
    return ancestors.gather(1, (torch.arange(size) + slot) % size)


killing = Scheme("killing", killing_rows, conditional_killing)
"""Keep each particle in its place, or put one there that is drawn by the weights."""
