"""Best of N: N independent runs, of which the one with the most likely path is taken.

The posterior is a point mass: all other particles get weight zero. Its evidence is that of the N
runs before the choice, the estimate of importance sampling.

Reference: Cobbe et al. (2021). Training verifiers to solve math word problems.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from llmsmc.inference import independent_runs
from llmsmc.inference.driver import Population, Stepwise
from llmsmc.posterior import Guarantee
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel
from llmsmc.weights import LogWeights, log_evidence


@dataclass(frozen=True)
class BestOfN(Stepwise):
    """Settings of best of N: `num_particles`, `truncated` and `record` of `Stepwise`."""

    guarantee: ClassVar[Guarantee] = "heuristic"

    def begin(self, model: StateSpaceModel, y: Any, streams: RandomStreams) -> Population:
        """Draw the initial particles."""
        return independent_runs.begin_weighted(model, self.num_particles, y, streams)

    def step(
        self, model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
    ) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step_weighted(model, t, population, y, streams)

    def conclude(
        self,
        model: StateSpaceModel,
        t: int,
        population: Population,
        observations: Observations | None,
    ) -> Population:
        """Weigh the paths and move all weight to the best."""
        weighed = independent_runs.weigh_paths(model, t, population, observations)
        return replace(weighed, log_weights=point_mass(weighed.log_weights))


def point_mass(log_weights: LogWeights) -> LogWeights:
    """Move the whole mass to the largest weight, the first of them if there are several."""
    best = torch.full_like(log_weights, -torch.inf)
    best[log_weights.argmax()] = log_evidence(log_weights)
    return best
