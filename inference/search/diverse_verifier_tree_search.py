"""Diverse verifier tree search: beam search in subtrees that never meet.

The particles form blocks of M, the subtrees. Each subtree keeps its likeliest unfinished path and
continues it in M ways, so that many first steps survive. The search returns the likeliest path of
all.

Reference: Beeching, Tunstall, Rush (2024). Scaling test-time compute with open models.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from llmsmc.core.checks import require_count
from llmsmc.errors import InputError
from llmsmc.inference.loop import independent_runs
from llmsmc.inference.loop.loop import Population, Run, Stepwise, descended
from llmsmc.inference.search.best_of_n import the_best
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class DiverseVerifierTreeSearch(Stepwise):
    """Settings of the search, in addition to those of `Stepwise`.

    The search works on models that remember their path.

    Attributes:
        beam_width: M, continuations of the path that is kept in a subtree; it divides N.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"
    has_evidence: ClassVar[bool] = False

    beam_width: int = 4

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_count("beam_width", self.beam_width)
        if self.num_particles % self.beam_width:
            raise InputError(
                "The subtrees are equally large. Got num_particles="
                f"{self.num_particles} in subtrees of {self.beam_width}; accepted: a multiple."
            )

    def init(self, run: Run) -> Population:
        """Draw the initial particles."""
        return independent_runs.init(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Keep the best path of each unfinished subtree, and continue it in several ways."""
        particles, scores = run.observe_path(t - 1, population.particles)
        population = replace(population, particles=particles)
        finished = run.finished(particles)
        # Finished paths keep their places; only those that go on compete.
        competing = scores.masked_fill(finished, -torch.inf).reshape(-1, self.beam_width)
        kept = competing.argmax(1) + torch.arange(len(competing)) * self.beam_width
        own = torch.arange(self.num_particles)
        ancestors = torch.where(finished, own, kept.repeat_interleave(self.beam_width))
        # A dead subtree that goes on must not be taken for a finished path.
        ancestors = torch.where(finished[ancestors] & ~finished, own, ancestors)
        return independent_runs.step(run, t, descended(population, ancestors))

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Move all weight to the likeliest path."""
        return the_best(run, t, population)
