r"""Weighted best of N: N independent runs, each with the likelihood of its path as its weight.

$$w^n = \frac{1}{N} \prod_t p(y_t \mid x_t^n).$$

This is importance sampling from the prior: a vote weighted by the reward, and at the same time an
unbiased estimate of the evidence, whose variance grows with the number of steps.

Reference: Li et al. (2023). Making language models better reasoners with step-aware verifier.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from llmsmc.inference import independent_runs
from llmsmc.inference.driver import Population, Stepwise
from llmsmc.posterior import Guarantee
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel


@dataclass(frozen=True)
class WeightedBestOfN(Stepwise):
    """Settings of weighted best of N: `num_particles`, `truncated` and `record` of `Stepwise`."""

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

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
        """Weigh the paths."""
        return independent_runs.weigh_paths(model, t, population, observations)
