"""Greedy: one particle that takes the most probable state at every step.

For a language model this is decoding at temperature zero. The likelihood is never evaluated.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from llmsmc.core.weights import uniform
from llmsmc.inference.loop.loop import Population, Run, Stepwise, absorb
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class Greedy(Stepwise):
    """Settings of the greedy run; it never evaluates a potential and draws nothing.

    There is one particle; `truncated` and `record` are those of `Stepwise`.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"
    has_evidence: ClassVar[bool] = False
    needs_reward: ClassVar[bool] = False

    num_particles: int = field(default=1, init=False, repr=False)

    def init(self, run: Run) -> Population:
        """Take the most probable initial state."""
        return Population(run.model.mode_initial(1), uniform(1), torch.arange(1))

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Take the most probable next state."""
        previous = population.particles
        particles = absorb(run.model.mode_transition(t, previous), previous, run.finished(previous))
        return replace(population, particles=particles)
