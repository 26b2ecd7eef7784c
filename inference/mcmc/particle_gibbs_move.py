r"""A conditional run as a move: each particle is the reference of a small filter of its own.

Each path x of step t is kept in slot 0 of a filter of N particles that runs from step 0 to t, and
is then replaced by a path drawn by the final weights. All steps can change at once, and nothing is
rejected; the cost is N - 1 new paths.

Reference: Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator

from llmsmc.core.checks import require_count
from llmsmc.core.particles import take, where
from llmsmc.core.randomness import RandomStreams, draw_seed
from llmsmc.inference.loop.loop import Population, Run
from llmsmc.inference.mcmc.conditional_smc import Chains, check_paths, draw_last, sweep
from llmsmc.inference.mcmc.reference import RememberedPaths
from llmsmc.inference.moves.move import Moved
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.blockwise import conditional
from llmsmc.inference.resampling.scheme import Resampler


@dataclass(frozen=True)
class ParticleGibbsMove:
    """The move, for models whose states remember their path and can be rewound.

    Attributes:
        num_particles: N of the filter of each particle, including the particle itself.
        resampler: a scheme that has a conditional version, or an `Adaptive` one around it.
        ancestor_sampling: whether the paths take new pasts on the way; the model has `splice` and
            `log_prior`.
    """

    num_particles: int = 4
    resampler: Resampler = Adaptive()
    ancestor_sampling: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count("num_particles", self.num_particles, minimum=2)
        conditional(self.resampler)

    def check(self, run: Run) -> None:
        """Raise `InputError` unless the states can be rewound."""
        check_paths(run, splicing=self.ancestor_sampling)

    def __call__(self, run: Run, t: int, population: Population, *, generator: Generator) -> Moved:
        """Move each particle of step t; consumes `generator`.

        A dead particle stays as it is, since an impossible path cannot be a reference.
        """
        old, moved = population.particles, torch.zeros(len(population.log_weights)).bool()
        alive = (population.log_weights > -math.inf).nonzero().squeeze(1)
        if not len(alive):
            return Moved(population, moved)
        inner = replace(run, streams=RandomStreams(draw_seed(generator)))
        chains = Chains(len(alive), self.num_particles, self.resampler, self.ancestor_sampling)
        swept = sweep(inner, chains, RememberedPaths(take(old, alive)), t, "move")
        chosen = draw_last(chains, swept, inner.generator(0, "reference"))
        new = chosen != chains.slots
        for step in swept.populations:
            new |= step.ancestors[chains.slots] != chains.slots
        moved[alive] = new
        place = torch.zeros(len(moved), dtype=torch.int64)
        place[alive] = chosen
        particles = where(moved, take(swept.last.particles, place), old)
        return Moved(replace(population, particles=particles), moved)
