"""What a run has cost."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Counters of a run or of a model; costs of disjoint pieces of work can be added.

    Attributes:
        generated_tokens: tokens that the policy has drawn.
        scored_tokens: tokens that the reward model has judged.
        policy_positions: positions that went through the policy, padding included.
        reward_positions: positions that went through the reward model, padding included.
        model_calls: forward passes of either model; requests, of one behind a server.
        seconds: wall-clock time of the run.
        policy_seconds: the part of it spent in the policy.
        reward_seconds: the part of it spent in the reward model.
        peak_memory_bytes: the largest amount of memory held; a maximum, not a sum.
        prompt_tokens: tokens that servers have been sent as prompts.
        cached_tokens: the part of them that a server had cached, as far as it says.
        failed_particles: particles that a server could not go on with.
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

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both: sums, and the larger of the two peaks."""
        sums = {name: value + getattr(other, name) for name, value in vars(self).items()}
        return Cost(
            **sums | {"peak_memory_bytes": max(self.peak_memory_bytes, other.peak_memory_bytes)}
        )

    def __sub__(self, earlier: "Cost") -> "Cost":
        """Return the cost since `earlier`; the peak stays."""
        return self.since(earlier, self.seconds - earlier.seconds)

    def since(self, earlier: "Cost", seconds: float) -> "Cost":
        """Return the cost since `earlier`, of a run that has taken so many seconds."""
        before = vars(earlier)
        rest = {name: value - before[name] for name, value in vars(self).items()}
        rest["peak_memory_bytes"], rest["seconds"] = self.peak_memory_bytes, seconds
        return Cost(**rest)
