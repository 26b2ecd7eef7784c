r"""Resampling given who is the parent of the first offspring.

A conditional scheme has the law of an unconditional one whose offspring stand in random order,
given that slot 0 holds a child of the parent. In that law the number of the parent's children is
size-biased: n children are n times as likely to hold a given slot. The other slots come in random
order, so that no sorting favours any of them.

Where the reference of a conditional run takes a new past, that is the parent: drawn first, with all
other ancestors integrated out, and then they given it.

Plain schemes with the first ancestor overwritten do not have this law: where the ancestors are
sorted, that removes the smallest of them (docs/exactness.md has the size of the error).

References:
    1. Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods.
    2. Chopin, Singh (2015). On particle Gibbs sampling, section 3.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.inference.resampling.scheme import uniforms


def point_on(
    parents: Int64[Tensor, " K"], weights: Float64[Tensor, "K N"], generator: Generator
) -> tuple[Int64[Tensor, "K 1"], Float64[Tensor, "K 1"]]:
    """Draw a point on the part of the line of N strata that is the parent's.

    Slot 0 holds each of the N points equally often, so that given whose it is, it is uniform
    there. Returned are its stratum and its offset within.
    """
    size, own = weights.shape[1], parents[:, None]
    scale = size / weights.sum(1, keepdim=True)
    right = weights.cumsum(1).gather(1, own) * scale
    length = weights.gather(1, own) * scale
    point = (right - uniforms((len(weights), 1), generator) * length).clamp(min=0.0)
    strata = point.floor().long().clamp(max=size - 1)
    return strata, (point - strata).clamp(max=1.0 - 2.0**-53)


def without(
    columns: Int64[Tensor, "K 1"], ancestors: Int64[Tensor, "K N"]
) -> Int64[Tensor, "K N-1"]:
    """Leave out one entry of each row."""
    places = torch.arange(ancestors.shape[1] - 1).expand(len(ancestors), -1)
    return ancestors.gather(1, places + (places >= columns))


def shuffled(ancestors: Int64[Tensor, "K M"], generator: Generator) -> Int64[Tensor, "K M"]:
    """Put each row into random order."""
    return ancestors.gather(1, uniforms(ancestors.shape, generator).argsort(1))


def led_by(parents: Int64[Tensor, " K"], others: Int64[Tensor, "K M"]) -> Int64[Tensor, "K N"]:
    """Put the parent of slot 0 before the others."""
    return torch.cat([parents[:, None], others], dim=1)
