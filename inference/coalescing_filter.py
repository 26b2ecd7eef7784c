r"""The coalescing filter: identical particles are one, with the sum of their weights.

Where states are discrete, as texts are, particles that are equal have one future. After each step
they are merged,

$$w^m = \sum_{n : x^n = x^m} w^n,$$

which changes neither the weighted measure nor the evidence; before the next one the M <= N distinct
particles branch into N offspring by their weights. Systematic offspring of merged weights are as
even as they can be, which those of the copies are not.

Reference: the operation is known as `coalesce` in GenParticleFilters.jl; with low-variance
branching see Fearnhead, Clifford (2003).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from llmsmc.inference.driver import Stepwise
from llmsmc.inference.population import Population
from llmsmc.inference.propagation import begin, extend
from llmsmc.inference.resamplers import Resampler, systematic
from llmsmc.inference.run import Run
from llmsmc.particles import take
from llmsmc.posterior import Guarantee


@dataclass(frozen=True)
class CoalescingFilter(Stepwise):
    """Settings of the coalescing filter, beside those of `Stepwise`.

    Attributes:
        resampler: the scheme by which M distinct particles branch into N.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = systematic

    def begin(self, run: Run) -> Population:
        """Draw the initial particles, weigh and merge them."""
        return coalesced(run, begin(run, self.num_particles))

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Branch, advance, and merge what is equal."""
        generator = run.generator(t, "resample")
        ancestors, carried, _ = self.resampler(
            population.log_weights, generator=generator, num_offspring=self.num_particles
        )
        parents = Population(take(population.particles, ancestors), carried, ancestors, True)
        return coalesced(run, extend(run, t, parents))


def coalesced(run: Run, population: Population) -> Population:
    """Merge identical particles; each stands for the heaviest of its kind, and has its parent."""
    kinds: dict[object, int] = {}
    keys = run.model.identities(population.particles)
    kind = torch.tensor([kinds.setdefault(key, len(kinds)) for key in keys])
    order = population.log_weights.argsort(descending=True, stable=True)
    firsts = torch.zeros(len(kinds), dtype=torch.long)
    firsts[kind[order.flip(0)]] = order.flip(0)
    sums = torch.stack([population.log_weights[kind == k].logsumexp(0) for k in range(len(kinds))])
    return replace(
        population,
        particles=take(population.particles, firsts),
        log_weights=sums,
        ancestors=population.ancestors[firsts],
    )
