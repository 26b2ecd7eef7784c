"""Resampling only when the weights have become uneven: a wrapper around another resampler.

Reference: Liu, Chen (1995). Blind deconvolution via sequential imputations.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.core.checks import require_fraction
from llmsmc.core.weights import as_log_weights, effective_sample_size
from llmsmc.errors import InputError
from llmsmc.inference.resampling.scheme import Resampled, Resampler
from llmsmc.inference.resampling.systematic import systematic


@dataclass(frozen=True)
class Adaptive:
    """Resample with `resampler` if the effective sample size is below `ess_threshold` times N.

    Otherwise every particle is its own parent and carries its log-weight on, bit for bit. The
    evidence stays unbiased, since the decision is a function of the past only.
    """

    resampler: Resampler = systematic
    ess_threshold: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings."""
        require_fraction("ess_threshold", self.ess_threshold)

    def __call__(
        self,
        log_weights: Float64[Tensor, " N"],
        *,
        generator: Generator,
        num_offspring: int | None = None,
    ) -> Resampled:
        """Resample or not; consumes `generator` if it does."""
        log_weights = as_log_weights(log_weights)
        size = len(log_weights)
        if num_offspring not in (None, size):
            raise InputError(
                "Particles that are not resampled keep their number. Got num_offspring="
                f"{num_offspring} for {size} particles; accepted: None or {size}."
            )
        if effective_sample_size(log_weights) >= self.ess_threshold * size:
            return Resampled(torch.arange(size), log_weights, resampled=False)
        return self.resampler(log_weights, generator=generator)
