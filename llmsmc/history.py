"""What happened at each step of a run."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Merged:
    """What is lost to sight where equal particles have been merged.

    Attributes:
        multiplicities: how many particles that were drawn each of them stands for.
        kinds: a number of the state of each; those of one number have one future.
        branches_evenly: whether the number of offspring of each kind is its expectation, up to
            rounding.
    """

    multiplicities: Int64[Tensor, " N"]
    kinds: Int64[Tensor, " N"]
    branches_evenly: bool


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
        merged: what has been merged; None where nothing ever is.
    """

    step: int
    effective_sample_size: float
    log_evidence: float
    ancestors: Int64[Tensor, " N"]
    resampled: bool
    num_finished: int
    acceptance_rate: float | None
    max_weight: float
    merged: Merged | None = None

    @property
    def num_unique_ancestors(self) -> int:
        """Return the number of distinct parents."""
        return len(torch.unique(self.ancestors))
