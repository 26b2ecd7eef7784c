"""The cost of a run."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmsmc.core.failures import Failures, since, together

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Cost:
    """Counters of a run or of a model; costs of disjoint pieces of work can be added.

    Attributes:
        generated_tokens: tokens that the policy has drawn.
        scored_tokens: tokens that the reward model has judged.
        policy_positions: positions that went through the policy, padding included.
        reward_positions: positions that went through the reward model, padding included.
        model_calls: forward passes of either model, or requests to a model behind a server.
        seconds: wall-clock time of the run.
        policy_seconds: the part of `seconds` spent in the policy.
        reward_seconds: the part of `seconds` spent in the reward model.
        peak_memory_bytes: the largest amount of memory held; a maximum, not a sum.
        prompt_tokens: prompt tokens sent to servers.
        cached_tokens: the part of `prompt_tokens` that a server had cached, where it reports this.
        failed_particles: particles that a server could not extend.
        failures: the errors by kind: the first message of each kind, and their number.
    """

    generated_tokens: int = 0
    scored_tokens: int = 0
    policy_positions: int = 0
    reward_positions: int = 0
    model_calls: int = 0
    seconds: float = 0.0
    policy_seconds: float = 0.0
    reward_seconds: float = 0.0
    peak_memory_bytes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    failed_particles: int = 0
    failures: Failures = field(default_factory=dict)

    @classmethod
    def of_failures(cls, errors: Iterable[Exception]) -> "Cost":
        """Return the cost of particles that have failed, each with its error."""
        failures = Failures()
        for error in errors:
            failures = together(failures, {str(error): 1})
        return cls(failed_particles=sum(failures.values()), failures=failures)

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum of both costs, with the larger of the two peaks."""
        both: dict[str, Any] = {
            "peak_memory_bytes": max(self.peak_memory_bytes, other.peak_memory_bytes),
            "failures": together(self.failures, other.failures),
        }
        sums = {
            name: value + getattr(other, name)
            for name, value in vars(self).items()
            if name not in both
        }
        return Cost(**sums, **both)

    def __sub__(self, earlier: "Cost") -> "Cost":
        """Return the cost since `earlier`; the peak stays."""
        return self.since(earlier, self.seconds - earlier.seconds)

    def since(self, earlier: "Cost", seconds: float) -> "Cost":
        """Return the cost since `earlier`, of a run that has taken so many seconds."""
        before = vars(earlier)
        kept: dict[str, Any] = {
            "peak_memory_bytes": self.peak_memory_bytes,
            "seconds": seconds,
            "failures": since(self.failures, earlier.failures),
        }
        rest = {
            name: value - before[name] for name, value in vars(self).items() if name not in kept
        }
        return Cost(**rest, **kept)


def peak_memory_bytes(device: "torch.device") -> int:
    """Return the largest amount of memory held so far: on the CUDA device, else in the process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on this platform
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
