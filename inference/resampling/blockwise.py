"""Resampling within blocks: independent populations side by side."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.weights import as_log_weights, effective_sample_sizes, scaled_rows
from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.killing import killing, killing_rows
from llmsmc.inference.resampling.resamplers import (
    Resampled,
    Resampler,
    Rows,
    multinomial,
    multinomial_rows,
    residual,
    residual_rows,
    stratified,
    stratified_rows,
    systematic,
    systematic_rows,
)


@dataclass(frozen=True)
class InBlocks:
    """Resample each of K blocks of N / K particles on its own; a dead block stays dead.

    The mass of every block is preserved, and no particle changes its block.
    """

    resampler: Resampler
    num_blocks: int

    def __call__(
        self,
        log_weights: Float64[Tensor, " N"],
        *,
        generator: Generator,
        num_offspring: int | None = None,
    ) -> Resampled:
        """Resample or not, block by block; consumes `generator`."""
        log_weights = as_log_weights(log_weights)
        size, rest = divmod(len(log_weights), self.num_blocks)
        if rest or num_offspring not in (None, len(log_weights)):
            raise InputError(
                f"Blocks are equally large and keep their size. Got {len(log_weights)} particles, "
                f"num_offspring={num_offspring}; accepted: a multiple of {self.num_blocks}, None."
            )
        if log_weights.max() == -math.inf:
            raise DegenerateWeightsError(f"All {len(log_weights)} weights are zero.")
        rows = log_weights.reshape(self.num_blocks, size)
        ancestors, carried, resampled = resample_rows(
            self.resampler, rows, rows.amax(1) > -math.inf, generator
        )
        starts = torch.arange(self.num_blocks)[:, None] * size
        return Resampled((ancestors + starts).flatten(), carried.flatten(), bool(resampled.any()))


def resample_rows(
    resampler: Resampler,
    log_weights: Float64[Tensor, "K N"],
    wanted: Bool[Tensor, " K"],
    generator: Generator,
) -> tuple[Int64[Tensor, "K N"], Float64[Tensor, "K N"], Bool[Tensor, " K"]]:
    """Resample some of K populations; all at once, if the scheme has a form for rows.

    Returns:
        The ancestors within each population, the outgoing log-weights, and a mask of the resampled
        populations.
    """
    ancestors = torch.arange(log_weights.shape[1]).expand(log_weights.shape).clone()
    carried, due = log_weights.clone(), wanted & is_due(resampler, log_weights)
    chosen = due.nonzero().squeeze(1)
    scheme = resampler.resampler if isinstance(resampler, Adaptive) else resampler
    if len(chosen) and scheme in _ROWS:
        rows = log_weights[chosen]
        ancestors[chosen] = _ROWS[scheme](scaled_rows(rows), rows.shape[1], generator)
        carried[chosen] = equal_rows(rows)
        return ancestors, carried, due
    for row in chosen.tolist():
        ancestors[row], carried[row], due[row] = scheme(log_weights[row], generator=generator)
    return ancestors, carried, due


def is_due(resampler: Resampler, log_weights: Float64[Tensor, "K N"]) -> Bool[Tensor, " K"]:
    """Return which of K populations an `Adaptive` scheme resamples; other schemes resample all."""
    if not isinstance(resampler, Adaptive):
        return torch.ones(len(log_weights), dtype=torch.bool)
    sizes = effective_sample_sizes(log_weights)
    return sizes < resampler.ess_threshold * log_weights.shape[1]


def equal_rows(log_weights: Float64[Tensor, "K N"]) -> Float64[Tensor, "K N"]:
    """Share the mass of each row equally."""
    share = log_weights.logsumexp(1, keepdim=True) - math.log(log_weights.shape[1])
    return share.expand(log_weights.shape)


_ROWS: Final[dict[Resampler, Rows]] = {
    multinomial: multinomial_rows,
    residual: residual_rows,
    stratified: stratified_rows,
    systematic: systematic_rows,
    killing: killing_rows,
}
