"""Resampling only when the weights have become uneven: a wrapper around another resampler.

Reference: Liu, Chen (1995). Blind deconvolution via sequential imputations.
"""

from dataclasses import dataclass

import torch
from torch import Generator

from llmsmc.core.checks import require_fraction
from llmsmc.core.weights import Weights
from llmsmc.errors import InputError
from llmsmc.inference.resampling.scheme import Resampled, Resampler, WeightResampler, resampled
from llmsmc.inference.resampling.systematic import systematic


@dataclass(frozen=True)
class Adaptive(WeightResampler):
    """Resample with `resampler` if the effective sample size is below `ess_threshold` times N.

    Otherwise every particle is its own parent and carries its log-weight on, bit for bit. The
    evidence stays unbiased, since the decision is a function of the past only.
    """

    resampler: Resampler = systematic
    ess_threshold: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings."""
        require_fraction("ess_threshold", self.ess_threshold)

    def resample(
        self, weights: Weights, generator: Generator, num_offspring: int | None = None
    ) -> Resampled:
        """Resample or not; consumes `generator` if it does."""
        size = weights.log_weights.shape[0]
        if num_offspring not in (None, size):
            raise InputError(
                "Particles that are not resampled keep their number. Got num_offspring="
                f"{num_offspring} for {size} particles; accepted: None or {size}."
            )
        if weights.effective_sample_size >= self.ess_threshold * size:
            return Resampled(torch.arange(size), weights.log_weights, resampled=False)
        return resampled(self.resampler, weights, generator)
