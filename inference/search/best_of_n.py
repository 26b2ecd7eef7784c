"""Best of N: N independent runs, of which the likeliest path is selected.

The posterior is a point mass: all other particles get weight zero. Its evidence is the importance
sampling estimate from the N runs before the selection.

Reference: Cobbe et al. (2021). Training verifiers to solve math word problems.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from llmsmc.core.weights import LogWeights, log_evidence
from llmsmc.inference.loop import independent_runs
from llmsmc.inference.loop.loop import Population, Run, Stepwise
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class BestOfN(Stepwise):
    """Settings of best of N: `num_particles`, `truncated` and `record` of `Stepwise`."""

    guarantee: ClassVar[Guarantee] = "heuristic"
    independent_draws: ClassVar[bool] = True

    def init(self, run: Run) -> Population:
        """Draw the initial particles."""
        return independent_runs.init_weighted(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step_weighted(run, t, population)

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Weigh the paths and move all weight to the best."""
        return the_best(run, t, population)


def the_best(run: Run, t: int, population: Population) -> Population:
    """Weigh the paths of step t, if not yet done, and move all weight to the likeliest."""
    weighed = independent_runs.weigh_paths(run, t, population)
    return replace(weighed, log_weights=point_mass(weighed.log_weights))


def point_mass(log_weights: LogWeights) -> LogWeights:
    """Move the whole mass to the largest weight; ties go to the first."""
    best = torch.full_like(log_weights, -torch.inf)
    best[log_weights.argmax()] = log_evidence(log_weights)
    return best
