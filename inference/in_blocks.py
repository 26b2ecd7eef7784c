"""Resampling within blocks: side by side, populations that know nothing of each other."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.inference.resamplers import Resampled, Resampler
from llmsmc.weights import as_log_weights


@dataclass(frozen=True)
class InBlocks:
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
        outcomes = []
        for start in range(0, len(log_weights), size):
            block = log_weights[start : start + size]
            if block.max() == -math.inf:
                outcomes.append(Resampled(torch.arange(size) + start, block, resampled=False))
                continue
            ancestors, carried, resampled = self.resampler(block, generator=generator)
            outcomes.append(Resampled(ancestors + start, carried, resampled))
        return Resampled(
            torch.cat([outcome.ancestors for outcome in outcomes]),
            torch.cat([outcome.log_weights for outcome in outcomes]),
            any(outcome.resampled for outcome in outcomes),
        )
