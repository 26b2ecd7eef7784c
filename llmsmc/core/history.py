"""Diagnostics of each step of a run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor

from llmsmc.errors import InputError

if TYPE_CHECKING:
    MaybeNone: TypeAlias = Any
else:
    MaybeNone = None
"""None, for algorithms that estimate no evidence; type checkers ask nobody else to look for it."""


@dataclass(frozen=True, eq=False)
class Merged:
    """The draws behind each particle, where equal particles have been merged.

    Attributes:
        multiplicities: the number of draws that each particle stands for.
        kinds: the number of each particle's state; equal numbers mean the same future.
        branches_evenly: whether the number of offspring of each kind is its expectation, up to
            rounding.
    """

    multiplicities: Int64[Tensor, " N"]
    kinds: Int64[Tensor, " N"]
    branches_evenly: bool

    def check(self) -> None:
        """Check the ranges of the numbers.

        Raises:
            InputError: a particle stands for no draw, or a kind is not one of 0 to N - 1.
        """
        count, kinds = len(self.kinds), self.kinds
        stand_for = (self.multiplicities >= 1) & (self.multiplicities < 2**31)
        if not bool((stand_for & (kinds >= 0) & (kinds < count)).all()):
            raise InputError(
                "Merged particles stand for some that were drawn, and are of a kind. Got others; "
                f"accepted: multiplicities of at least 1, kinds of 0 to {count - 1}."
            )


@dataclass(frozen=True, eq=False)
class StepRecord:
    """The diagnostics of one step, taken from the weighted particles before any resampling.

    Attributes:
        step: the step t, from 0.
        effective_sample_size: of the weights after the step.
        log_evidence: the log-evidence of the steps 0 to t; None where none is estimated.
        ancestors: for each particle, the index of its parent among those of the step before.
        resampled: whether the parents were drawn anew; if not, each particle is its own.
        num_finished: particles that have finished, in this step or before.
        acceptance_rate: the acceptance rate of the moves of the step; None without moves.
        max_weight: the largest normalised weight.
        merged: the record of merged particles; None where an algorithm never merges.
    """

    step: int
    effective_sample_size: float
    log_evidence: float | MaybeNone
    ancestors: Int64[Tensor, " N"]
    resampled: bool
    num_finished: int
    acceptance_rate: float | None
    max_weight: float
    merged: Merged | None = None

    def check(self) -> None:
        """Check that `merged` describes the particles of the step.

        Raises:
            InputError: it describes more particles, or fewer.
        """
        count = len(self.ancestors)
        if self.merged is not None and len(self.merged.kinds) != count:
            raise InputError(
                f"What has been merged is known of each particle. Got {len(self.merged.kinds)} at "
                f"step {self.step}; accepted: {count}."
            )

    @property
    def num_unique_ancestors(self) -> int:
        """Return the number of distinct parents."""
        return len(torch.unique(self.ancestors))
