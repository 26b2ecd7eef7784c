"""The reference of a conditional run: one path that is kept while all others are drawn anew."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.inference.run import Run
from llmsmc.particles import num_particles, take
from llmsmc.weights import on_host


@runtime_checkable
class Reference(Protocol):
    """One path x'_0, ..., x'_T."""

    def at(self, run: Run, t: int) -> Any:
        """Return the state x'_t, a population of one; the last one if it has finished by then."""
        ...

    def behind(self, run: Run, t: int, particles: Any) -> tuple[Tensor, Any]:
        r"""Continue other pasts by this path, from step t on.

        Returns:
            For each particle of step t - 1 the log of
            $\gamma(x_{0:t-1}, x'_{t:T}) / \gamma(x_{0:t-1})$, up to a constant, `[N]`; and
            what `continued` needs to know.
        """
        ...

    def continued(self, pasts: Any, n: int) -> "Reference":
        """Return this path with the past of particle n, given what `behind` returned."""
        ...


@dataclass(frozen=True, eq=False)
class RememberedPath:
    """The reference of a model whose states remember their path.

    Attributes:
        path: the last state, a population of one.
    """

    path: Any

    def at(self, run: Run, t: int) -> Any:
        """Return the path up to step t."""
        return run.model.rewind(self.path, torch.tensor([t + 1]))

    def behind(self, run: Run, t: int, particles: Any) -> tuple[Tensor, Any]:
        """Score the whole of each new path: its future depends on all of its past."""
        model = run.model
        spliced = model.splice(particles, t, self.path)
        last = int(model.num_steps(self.path)[0]) - 1
        log_ratio = (
            model.log_prior(spliced)
            - model.log_prior(particles)
            + run.path_log_likelihood(last, spliced)
            - run.path_log_likelihood(t - 1, particles)
        )
        return _possible(run, particles, log_ratio), spliced

    def continued(self, pasts: Any, n: int) -> "RememberedPath":
        """Return the path spliced onto the past of particle n."""
        return RememberedPath(take(pasts, torch.tensor([n])))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The reference of a Markov model.

    Attributes:
        states: x'_0, ..., x'_T, each a population of one.
    """

    states: tuple[Any, ...]

    def at(self, run: Run, t: int) -> Any:
        """Return the state at step t."""
        return self.states[min(t, len(self.states) - 1)]

    def behind(self, run: Run, t: int, particles: Any) -> tuple[Tensor, Any]:
        """Score the next step: what comes after it does not depend on the past."""
        model = run.model
        state = take(self.states[t], torch.zeros(num_particles(particles), dtype=torch.int64))
        log_ratio = model.log_transition(t, particles, state)
        log_ratio = log_ratio + model.log_likelihood(t, particles, state, run.y(t))
        return _possible(run, particles, log_ratio), None

    def continued(self, pasts: Any, n: int) -> "Trajectory":
        """Return the same: the past that counts from here on is told by the ancestors."""
        return self


def _possible(run: Run, particles: Any, log_ratio: Tensor) -> Float64[Tensor, " N"]:
    """Nothing comes after a path that has finished; an impossible past is no better."""
    log_ratio = on_host(log_ratio)
    finished = run.model.finished(particles).cpu()
    return torch.where(finished | log_ratio.isnan(), -math.inf, log_ratio)
