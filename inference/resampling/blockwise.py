"""Resampling within blocks: side by side, populations that know nothing of each other."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.weights import as_log_weights, effective_sample_sizes, scaled_rows
from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Conditional, Resampled, Resampler, Scheme
from llmsmc.registry import RESAMPLERS


@dataclass(frozen=True)
class Blockwise:
    """Resample each of K blocks of N / K particles on its own; a block that is dead stays so.

    The mass of every block is preserved, and a block never takes in a particle of another.
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
    """Resample those of K populations that are wanted; all at once, if the scheme can.

    Returns:
        The ancestors within each population, the log-weights that remain, and which populations
        have been resampled.
    """
    ancestors = torch.arange(log_weights.shape[1]).expand(log_weights.shape).clone()
    carried, due = log_weights.clone(), wanted & is_due(resampler, log_weights)
    chosen = due.nonzero().squeeze(1)
    scheme = _scheme(resampler)
    if len(chosen) and isinstance(scheme, Scheme) and scheme.batched is not None:
        rows = log_weights[chosen]
        ancestors[chosen] = scheme.batched(scaled_rows(rows), rows.shape[1], generator)
        carried[chosen] = equal_rows(rows)
        return ancestors, carried, due
    for row in chosen.tolist():
        ancestors[row], carried[row], due[row] = scheme(log_weights[row], generator=generator)
    return ancestors, carried, due


def conditional(resampler: Resampler) -> Conditional:
    """Return the conditional form of a scheme, or of the one inside an `Adaptive`.

    Raises:
        InputError: the scheme has none.
    """
    scheme = _scheme(resampler)
    if not isinstance(scheme, Scheme) or scheme.conditional is None:
        able = [name for name in RESAMPLERS if RESAMPLERS[name].conditional is not None]
        raise InputError(
            "A reference is kept by conditional resampling. Got "
            f"{RESAMPLERS.name_of(scheme)!r}; accepted: {', '.join(able)}, or a Scheme with "
            "conditional=."
        )
    return scheme.conditional


def _scheme(resampler: Resampler) -> Resampler:
    """Return the scheme, without the decision of an `Adaptive` around it."""
    return resampler.resampler if isinstance(resampler, Adaptive) else resampler


def is_due(resampler: Resampler, log_weights: Float64[Tensor, "K N"]) -> Bool[Tensor, " K"]:
    """Return which of K populations an `Adaptive` scheme would resample; any other one all."""
    if not isinstance(resampler, Adaptive):
        return torch.ones(len(log_weights), dtype=torch.bool)
    sizes = effective_sample_sizes(log_weights)
    return sizes < resampler.ess_threshold * log_weights.shape[1]


def equal_rows(log_weights: Float64[Tensor, "K N"]) -> Float64[Tensor, "K N"]:
    """Share the mass of each row equally."""
    share = log_weights.logsumexp(1, keepdim=True) - math.log(log_weights.shape[1])
    return share.expand(log_weights.shape)
