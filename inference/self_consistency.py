"""Self-consistency: N independent runs and a vote, whatever the likelihood says.

The particles are exact draws from the prior, all of the same weight. With one particle this is a
plain sample from the model.

Reference: Wang et al. (2023). Self-consistency improves chain of thought reasoning in language
models.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from llmsmc.inference import independent_runs
from llmsmc.inference.driver import Population, Stepwise
from llmsmc.posterior import Guarantee
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import StateSpaceModel


@dataclass(frozen=True)
class SelfConsistency(Stepwise):
    """Settings of self-consistency; it never evaluates a potential.

    They are those of `Stepwise`: `num_particles`, `truncated` and `record`.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"

    def begin(self, model: StateSpaceModel, y: Any, streams: RandomStreams) -> Population:
        """Draw the initial particles."""
        return independent_runs.begin(model, self.num_particles, streams)

    def step(
        self, model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
    ) -> Population:
        """Advance the particles that have not finished by one step."""
        return independent_runs.step(model, t, population, streams)
