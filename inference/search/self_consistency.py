"""Self-consistency: N independent runs and a majority vote, without the likelihood.

The particles are exact draws from the prior, with equal weights. With one particle this is a plain
sample from the model.

Reference: Wang et al. (2023). Self-consistency improves chain of thought reasoning in language
models.
"""

from dataclasses import dataclass
from typing import ClassVar

from llmsmc.inference.loop import independent_runs
from llmsmc.inference.loop.loop import Population, Run, Stepwise
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class SelfConsistency(Stepwise):
    """Settings of self-consistency; it never evaluates a potential.

    The settings are those of `Stepwise`: `num_particles`, `truncated` and `record`.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"
    has_evidence: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = False
    independent_draws: ClassVar[bool] = True

    def init(self, run: Run) -> Population:
        """Draw the initial particles."""
        return independent_runs.init(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step(run, t, population)
