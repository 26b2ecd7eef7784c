"""The cost of a run, and the clock by which its seconds are counted.

By default the clock shows wall-clock time. A run that shares models with other runs has a clock of
its own, which is paused while the others execute.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

CLOCK: Final[ContextVar[Callable[[], float]]] = ContextVar("clock", default=time.perf_counter)

Failures = dict[str, int]
"""The first message of each kind, and the number of messages of that kind."""

_VARYING: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|[0-9]+")


def clock() -> float:
    """Return the time of the clock in seconds; only differences have a meaning."""
    return CLOCK.get()()


def kind_of(message: str) -> str:
    """Return the kind of a message: the message without its numbers and quoted parts."""
    return _VARYING.sub("_", message.partition(" Got ")[0])


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
            failures = _together(failures, {str(error): 1})
        return cls(failed_particles=sum(failures.values()), failures=failures)

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum of both costs, with the larger of the two peaks."""
        failures = self.failures
        if other.failures:
            failures = _together(failures, other.failures)
        both: dict[str, Any] = {
            "peak_memory_bytes": max(self.peak_memory_bytes, other.peak_memory_bytes),
            "failures": failures,
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
        if self is earlier:
            return Cost(seconds=seconds, peak_memory_bytes=self.peak_memory_bytes)
        before = vars(earlier)
        left = {kind: n - earlier.failures.get(kind, 0) for kind, n in self.failures.items()}
        kept: dict[str, Any] = {
            "peak_memory_bytes": self.peak_memory_bytes,
            "seconds": seconds,
            "failures": {kind: n for kind, n in left.items() if n},
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


def _together(one: Mapping[str, int], other: Mapping[str, int]) -> Failures:
    """Return the failures of both; a kind keeps its first message, from `one` if it is there."""
    total = dict(one)
    first = {kind_of(message): message for message in one}
    for message, count in other.items():
        message = first.setdefault(kind_of(message), message)
        total[message] = total.get(message, 0) + count
    return total
