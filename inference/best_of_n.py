"""Best of N: N independent runs, of which the one with the most likely path is taken.

The posterior is a point mass: all other particles get weight zero. Its evidence is that of the N
runs before the choice, the estimate of importance sampling.

Reference: Cobbe et al. (2021). Training verifiers to solve math word problems.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from llmsmc.inference import independent_runs
from llmsmc.inference.algorithm import Algorithm, check_settings
from llmsmc.inference.driver import Population, drive
from llmsmc.posterior import Guarantee, Posterior
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel, Truncated
from llmsmc.weights import LogWeights, log_evidence


@dataclass(frozen=True)
class BestOfN(Algorithm):
    """Settings of best of N.

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

        def conclude(t: int, population: Population) -> Population:
            weighed = independent_runs.weigh_paths(model, t, population, observations)
            return replace(weighed, log_weights=point_mass(weighed.log_weights))

        return drive(self, model, observations, seed=seed, conclude=conclude)

    def begin(self, model: StateSpaceModel, y: Any, streams: RandomStreams) -> Population:
        """Draw the initial particles."""
        return independent_runs.begin_weighted(model, self.num_particles, y, streams)

    def step(
        self, model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
    ) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step_weighted(model, t, population, y, streams)


def point_mass(log_weights: LogWeights) -> LogWeights:
    """Move the whole mass to the largest weight, the first of them if there are several."""
    best = torch.full_like(log_weights, -torch.inf)
    best[log_weights.argmax()] = log_evidence(log_weights)
    return best
