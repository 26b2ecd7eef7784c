"""The references of conditional runs: K paths that are kept while all others are drawn anew."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from llmsmc.core.capabilities import Rewinds, Splices
from llmsmc.core.particles import concatenate, num_particles, take
from llmsmc.core.weights import on_host
from llmsmc.inference.loop.loop import Run


@runtime_checkable
class References(Protocol):
    """K paths x'_0, ..., x'_T."""

    def at(self, run: Run, t: int) -> Any:
        """Return the states x'_t, a population of K; for finished paths, their last states."""
        ...

    def ancestor_log_ratio(
        self, run: Run, t: int, particles: Any, owners: Int64[Tensor, " M"]
    ) -> tuple[Float64[Tensor, " M"], Any]:
        r"""Continue other pasts by these paths, from step t on.

        Args:
            run: the run.
            t: the first step that is taken from the references.
            particles: M states of step t - 1.
            owners: for each of the M states, the index of the path that continues it.

        Returns:
            For each state the log of $\gamma(x_{0:t-1}, x'_{t:T}) / \gamma(x_{0:t-1})$, up to a
            constant for each path; and the M new paths, where states remember them.
        """
        ...

    def with_pasts(
        self, t: int, states: Any, paths: Any, numbers: Int64[Tensor, " K"]
    ) -> "References":
        """Give each path its chosen past.

        Args:
            t: the first step that stays as it is.
            states: the K states of step t - 1, each the end of a past.
            paths: the paths that `ancestor_log_ratio` returned.
            numbers: for each reference the index of its new path in `paths`; -1 to keep its past.
        """
        ...


@dataclass(frozen=True, eq=False)
class RememberedPaths:
    """The references of a model whose states remember their path.

    Attributes:
        paths: the last states.
    """

    paths: Any

    def at(self, run: Run, t: int) -> Any:
        """Return the paths up to step t."""
        return run.model_as(Rewinds).rewind(
            self.paths, torch.full((num_particles(self.paths),), t + 1)
        )

    def ancestor_log_ratio(
        self, run: Run, t: int, particles: Any, owners: Int64[Tensor, " M"]
    ) -> tuple[Float64[Tensor, " M"], Any]:
        """Score the whole of each new path: its future depends on all of its past."""
        model = run.model_as(Splices)
        spliced = model.splice(particles, t, take(self.paths, owners))
        last = int(run.model_as(Rewinds).num_steps(self.paths).max()) - 1
        log_ratio = on_host(model.log_prior(spliced)) - on_host(model.log_prior(particles))
        possible = log_ratio > -math.inf
        _, before = run.observe_path(t - 1, particles)
        spliced, after = run.observe_surviving_path(last, spliced, since=t)
        log_ratio = log_ratio + after - before
        return _possible(run, particles, log_ratio.masked_fill(~possible, -math.inf)), spliced

    def with_pasts(
        self, t: int, states: Any, paths: Any, numbers: Int64[Tensor, " K"]
    ) -> "RememberedPaths":
        """Take the paths spliced onto the pasts that were chosen."""
        size = len(numbers)
        kept = numbers < 0
        if bool(kept.all()):
            return self
        rows = torch.where(kept, torch.arange(size), size + numbers)
        return RememberedPaths(take(concatenate([self.paths, paths]), rows))


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The references of a Markov model.

    Attributes:
        states: x'_0, ..., x'_T, each a population of K.
    """

    states: tuple[Any, ...]

    def at(self, run: Run, t: int) -> Any:
        """Return the states at step t."""
        return self.states[min(t, len(self.states) - 1)]

    def ancestor_log_ratio(
        self, run: Run, t: int, particles: Any, owners: Int64[Tensor, " M"]
    ) -> tuple[Float64[Tensor, " M"], Any]:
        """Score the next step: what comes after it does not depend on the past."""
        state = take(self.states[t], owners)
        log_ratio = on_host(run.model.log_transition(t, particles, state))
        _, log_likelihood = run.observe(t, particles, state)
        return _possible(run, particles, log_ratio + log_likelihood), None

    def with_pasts(
        self, t: int, states: Any, paths: Any, numbers: Int64[Tensor, " K"]
    ) -> "Trajectories":
        """Replace the states of step t - 1; the ancestors determine the states before them."""
        return Trajectories((*self.states[: t - 1], states, *self.states[t:]))


def _possible(run: Run, particles: Any, log_ratio: Tensor) -> Float64[Tensor, " M"]:
    """Give `-inf` to finished paths, which have no continuation, and to impossible pasts."""
    finished = run.finished(particles)
    return torch.where(finished | log_ratio.isnan(), -math.inf, log_ratio)
