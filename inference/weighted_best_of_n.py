r"""Weighted best of N: N independent runs, each with the likelihood of its path as its weight.

$$w^n = \frac{1}{N} \prod_t p(y_t \mid x_t^n).$$

This is importance sampling from the prior: a vote weighted by the reward, and at the same time an
unbiased estimate of the evidence, whose variance grows with the number of steps.

Reference: Li et al. (2023). Making language models better reasoners with step-aware verifier.
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
class WeightedBestOfN(Algorithm):
    """Settings of weighted best of N.

    Attributes:
        num_particles: N.
        truncated: what becomes of particles that are cut off unfinished.
        record: whether the posterior keeps the population of every step, for `trajectories`.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

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

        def conclude(t: int, population: Population) -> Population:
            return independent_runs.weigh_paths(model, t, population, observations)

        return drive(self, model, observations, seed=seed, conclude=conclude)

    def begin(self, model: StateSpaceModel, y: Any, streams: RandomStreams) -> Population:
        """Draw the initial particles."""
        return independent_runs.begin_weighted(model, self.num_particles, y, streams)

    def step(
        self, model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
    ) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step_weighted(model, t, population, y, streams)
