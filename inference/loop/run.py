"""The context of a run: the model, the observations and the random streams."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Generator, Tensor

from llmsmc.core.particles import num_particles
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.core.weights import on_host


@dataclass(frozen=True, eq=False)
class Run:
    """A model, its observations, and the random streams of the run; fixed throughout the run.

    Attributes:
        model: the model to infer.
        observations: y_0, ..., y_{T-1}; None if the run ends when all particles have finished.
        streams: the random streams.
        inverse_temperature: the exponent of the likelihood in the target.
    """

    model: StateSpaceModel
    observations: Observations | None
    streams: RandomStreams
    inverse_temperature: float = 1.0

    def __post_init__(self) -> None:
        """Let the model know the observations."""
        object.__setattr__(self, "model", self.model.given(self.observations))

    def y(self, t: int) -> Any:
        """Return y_t; None where it is missing, and where there are no observations."""
        return None if self.observations is None else self.observations[t]

    def generator(self, t: int, purpose: str) -> Generator:
        """Return the generator of random numbers of step t for a purpose."""
        return self.streams.generator(t, purpose)

    def num_finished(self, particles: Any) -> int:
        """Return how many of the particles have finished."""
        return int(self.model.finished(particles).sum()) if self.model.can_finish() else 0

    def all_finished(self, particles: Any) -> bool:
        """Return whether all of the particles have finished."""
        return self.model.can_finish() and bool(self.model.finished(particles).all())

    def truncated(self, particles: Any) -> Bool[Tensor, " N"]:
        """Return which particles the end of the run cuts off; none if observations end it."""
        if self.observations is None:
            return self.model.truncated(particles).cpu()
        return torch.zeros(num_particles(particles), dtype=torch.bool)

    def observe_path(self, t: int, particles: Any) -> tuple[Any, Float64[Tensor, " N"]]:
        """Return the particles of step t, observed, and the log-likelihoods of their paths."""
        if self.observations is None and self.model.can_rewind():
            # Where nothing bounds a run, t is beyond all bounds.
            t = min(t, max(0, int(self.model.num_steps(particles).max()) - 1))
        particles, values = self.model.observe_path(t, particles, self.observations)
        return particles, self._tempered(on_host(values))

    def observe_surviving_path(
        self, t: int, particles: Any, since: int = 0
    ) -> tuple[Any, Float64[Tensor, " N"]]:
        """Do the same as `observe_path`, with `-inf` for paths that a filter would have lost.

        Args:
            t: the step.
            particles: the paths.
            since: number of first steps that the paths are known to have survived.
        """
        particles, values = self.observe_path(t, particles)
        survives = self.model.survives(t, particles, since).cpu()
        return particles, values.where(survives, -math.inf)

    def observe(
        self, t: int, previous: Any, particles: Any
    ) -> tuple[Any, Float64[Tensor, " N"]]:
        """Return the particles of step t, observed, and their log-likelihoods.

        `previous` is None at t = 0.
        """
        particles, values = self.model.observe(t, previous, particles, self.y(t))
        return particles, self._tempered(on_host(values))

    def _tempered(self, log_likelihood: Tensor) -> Tensor:
        if self.inverse_temperature == 1:
            return log_likelihood
        impossible = log_likelihood == -math.inf
        return (self.inverse_temperature * log_likelihood).masked_fill(impossible, -math.inf)
