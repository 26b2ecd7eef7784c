"""What happened at each step of a run."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StepRecord:
    """The diagnostics of one step, taken from the weighted particles before any resampling.

    Attributes:
        step: the step t, from 0.
        effective_sample_size: of the weights after the step.
        log_evidence: of the steps 0 to t.
        ancestors: for each particle, the index of its parent among those of the step before.
        resampled: whether the parents were drawn anew; if not, each particle is its own.
        num_finished: particles that have finished, in this step or before.
        acceptance_rate: of the moves made in the step; None where there are none.
        max_weight: the largest normalised weight.
    """

    step: int
    effective_sample_size: float
    log_evidence: float
    ancestors: Int64[Tensor, " N"]
    resampled: bool
    num_finished: int
    acceptance_rate: float | None
    max_weight: float

    @property
    def num_unique_ancestors(self) -> int:
        """Return the number of distinct parents."""
        return len(torch.unique(self.ancestors))
