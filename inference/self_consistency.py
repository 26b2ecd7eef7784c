"""Self-consistency: N independent runs and a vote, whatever the likelihood says.

The particles are exact draws from the prior, all of the same weight. With one particle this is a
plain sample from the model.

Reference: Wang et al. (2023). Self-consistency improves chain of thought reasoning in language
models.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llmsmc.inference import independent_runs
from llmsmc.inference.algorithm import Algorithm, check_settings
from llmsmc.inference.driver import Population, drive
from llmsmc.posterior import Guarantee, Posterior
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel, Truncated


@dataclass(frozen=True)
class SelfConsistency(Algorithm):
    """Settings of self-consistency; it never evaluates a potential.

    Attributes:
        num_particles: N.
        truncated: what becomes of particles that are cut off unfinished.
        record: whether the posterior keeps the population of every step, for `trajectories`.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"

    num_particles: int
    truncated: Truncated = "keep"
    record: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self.num_particles, self.truncated)

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
        """Draw the initial particles."""
        return independent_runs.begin(model, self.num_particles, streams)

    def step(
        self, model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
    ) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step(model, t, population, streams)
