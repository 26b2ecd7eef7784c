"""Greedy: one particle that takes the most probable state at every step.

For a language model this is decoding at temperature zero. The likelihood is never looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from llmsmc.inference.algorithm import Algorithm, check_settings
from llmsmc.inference.driver import Population, drive
from llmsmc.inference.propagation import absorb
from llmsmc.posterior import Guarantee, Posterior
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel, Truncated
from llmsmc.weights import uniform


@dataclass(frozen=True)
class Greedy(Algorithm):
    """Settings of the greedy run; it never evaluates a potential and draws nothing.

    Attributes:
        truncated: what becomes of the particle if it is cut off unfinished.
        record: whether the posterior keeps the particle of every step, for `trajectories`.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"

    truncated: Truncated = "keep"
    record: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(1, self.truncated)

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior after every step; the last one is that of `run`."""
        return drive(self, model, observations, seed=seed)

    def begin(self, model: StateSpaceModel, y: Any, streams: RandomStreams) -> Population:
        """Take the most probable initial state."""
        return Population(model.mode_initial(1), uniform(1), torch.arange(1))

    def step(
        self, model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
    ) -> Population:
        """Take the most probable next state."""
        previous = population.particles
        particles = absorb(model, model.mode_transition(t, previous), previous)
        return replace(population, particles=particles)
