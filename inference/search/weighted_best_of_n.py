r"""Weighted best of N: N independent runs, each with the likelihood of its path as its weight.

$$w^n = \frac{1}{N} \prod_t p(y_t \mid x_t^n).$$

This is importance sampling from the prior: a vote weighted by the reward, and at the same time an
unbiased estimate of the evidence, whose variance grows with the number of steps.

Reference: Li et al. (2023). Making language models better reasoners with step-aware verifier.
"""

from dataclasses import dataclass
from typing import ClassVar

from llmsmc.inference.loop import independent_runs
from llmsmc.inference.loop.loop import Population, Run, Stepwise
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class WeightedBestOfN(Stepwise):
    """Settings of weighted best of N: `num_particles`, `truncated` and `record` of `Stepwise`."""

    guarantee: ClassVar[Guarantee] = "unbiased evidence"
    independent_draws: ClassVar[bool] = True

    def init(self, run: Run) -> Population:
        """Draw the initial particles."""
        return independent_runs.init_weighted(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step_weighted(run, t, population)

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Weigh the paths."""
        return independent_runs.weigh_paths(run, t, population)
