r"""Residual resampling: $\lfloor M W^n \rfloor$ offspring for sure, the others are drawn."""

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.inference.resampling.conditional import led_by, shuffled, without
from llmsmc.inference.resampling.scheme import Scheme, inverse_cdf, uniforms


def residual_rows(
    weights: Float64[Tensor, "K N"], size: int, generator: Generator
) -> Int64[Tensor, "K M"]:
    """Put the sure offspring first, and draw the others."""
    expected = weights * size / weights.sum(1, keepdim=True)
    copies = expected.floor()
    rest = expected - copies
    # A row without a rest has no draws, whatever it would draw from.
    rest = torch.where(rest.amax(1, keepdim=True) > 0, rest, weights)
    drawn = inverse_cdf(rest, uniforms((len(weights), size), generator))
    places = torch.arange(size).expand(len(weights), -1).contiguous()
    sure = torch.searchsorted(copies.long().cumsum(1), places, right=True)
    return torch.where(places < copies.sum(1, keepdim=True), sure, drawn)


def conditional_residual(
    weights: Float64[Tensor, "K N"], parents: Int64[Tensor, " K"], generator: Generator
) -> Int64[Tensor, "K N"]:
    """Let slot 0 hold a sure child of the parent, or the last of the drawn ones."""
    size = weights.shape[1]
    expected = weights * size / weights.sum(1, keepdim=True)
    copies = expected.floor()
    ancestors = residual_rows(weights, size, generator)
    child, sure = expected.gather(1, parents[:, None]), copies.gather(1, parents[:, None])
    is_drawn = uniforms((len(weights), 1), generator) * child >= sure
    is_drawn &= copies.sum(1, keepdim=True) < size
    first = torch.where(is_drawn, size - 1, (ancestors == parents[:, None]).long().argmax(1, True))
    return led_by(parents, shuffled(without(first, ancestors), generator))


residual = Scheme("residual", residual_rows, conditional_residual, is_even=True)
r"""Give particle n its $\lfloor M W^n \rfloor$ offspring for sure, and draw only the rest."""
