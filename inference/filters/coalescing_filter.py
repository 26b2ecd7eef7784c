r"""The coalescing filter: equal particles branch as one, by the sum of their weights.

Where states are discrete, as texts are, particles that are equal have one future, whatever their
past. With $k_1, \dots, k_M$ the M <= N distinct states, the N offspring are drawn from the sums

$$w^m = \sum_{n : x^n = k_m} w^n,$$

and each offspring of $k_m$ then draws its parent n among those equal to it, with probability
$w^n / w^m$. Systematic offspring of the sums are as even as they can be, which those of the copies
are not; and as $\mathbb{E}[w^m 1\{\text{parent} = n\}] = w^n$, whole paths, and so smoothed means,
stay properly weighted. Particles of one state and one parent are the same path, and are kept as one
particle with the sum of their weights, which loses nothing. (One particle a state would keep one
past of each state: with K states, K paths for the smoothed means however many particles there are.)

Reference: the operation is known as `coalesce` in GenParticleFilters.jl; with low-variance
branching see Fearnhead, Clifford (2003).
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.history import Merged
from llmsmc.core.particles import take
from llmsmc.inference.loop.loop import Population, Run, Stepwise, extend, init
from llmsmc.inference.resampling.scheme import Resampler, Scheme
from llmsmc.inference.resampling.systematic import systematic
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class CoalescingFilter(Stepwise):
    """Settings of the coalescing filter, beside those of `Stepwise`.

    Attributes:
        resampler: the scheme by which M distinct states branch into N.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = systematic

    def init(self, run: Run) -> Population:
        """Draw the initial particles, weigh and merge them."""
        drawn = init(run, self.num_particles)
        merged = self._coalesced(run, replace(drawn, ancestors=torch.zeros_like(drawn.ancestors)))
        return replace(merged, ancestors=torch.arange(len(merged.log_weights)))

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Let the distinct states branch, draw the parents, advance, and merge what is equal."""
        assert population.merged is not None
        kinds = population.merged.kinds
        states, carried, _ = self.resampler(
            sums(population.log_weights, kinds),
            generator=run.generator(t, "resample"),
            num_offspring=self.num_particles,
        )
        generator = run.generator(t, "parent")
        ancestors = draw_members(states, population.log_weights, kinds, generator=generator)
        parents = Population(take(population.particles, ancestors), carried, ancestors, True)
        return self._coalesced(run, extend(run, t, parents))

    def _coalesced(self, run: Run, population: Population) -> Population:
        evenly = isinstance(self.resampler, Scheme) and self.resampler.is_even
        return coalesced(run, population, branches_evenly=evenly)


def coalesced(run: Run, population: Population, *, branches_evenly: bool) -> Population:
    """Merge the particles that are equal and have one parent; the heaviest stands for them."""
    keys = run.model.identities(population.particles)
    kinds = _numbered(keys)
    paths = _numbered(zip(keys, population.ancestors.tolist(), strict=True))
    order = population.log_weights.argsort(descending=True, stable=True)
    firsts = torch.zeros(int(paths.max()) + 1, dtype=torch.long)
    firsts[paths[order.flip(0)]] = order.flip(0)
    return replace(
        population,
        particles=take(population.particles, firsts),
        log_weights=sums(population.log_weights, paths),
        ancestors=population.ancestors[firsts],
        merged=Merged(paths.bincount(), kinds[firsts], branches_evenly),
    )


def sums(log_weights: Float64[Tensor, " N"], groups: Int64[Tensor, " N"]) -> Float64[Tensor, " G"]:
    """Return the log of the sum of the weights of each group, which are numbered from 0."""
    count = int(groups.max()) + 1
    largest = log_weights.new_full((count,), -torch.inf)
    largest = largest.scatter_reduce(0, groups, log_weights, "amax").clamp(min=-1e300)
    total = log_weights.new_zeros(count)
    return total.index_add(0, groups, (log_weights - largest[groups]).exp()).log() + largest


def draw_members(
    drawn: Int64[Tensor, " N"],
    log_weights: Float64[Tensor, " M"],
    groups: Int64[Tensor, " M"],
    *,
    generator: Generator,
) -> Int64[Tensor, " N"]:
    """Draw a member of each of the groups that are named, by its weight; consumes `generator`."""
    order = log_weights.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]  # group by group, the dead at the end of each
    sizes = groups.bincount()
    starts = sizes.cumsum(0) - sizes
    shares = (log_weights - sums(log_weights, groups)[groups]).exp().nan_to_num(0.0)[order]
    below = torch.cat([shares.new_zeros(1), shares.cumsum(0)])
    low, high = below[starts][drawn], below[starts + sizes][drawn]
    uniform = torch.rand(len(drawn), generator=generator, dtype=torch.float64)
    found = torch.searchsorted(below[1:], low + uniform * (high - low), right=True)
    num_alive = groups[order][shares > 0].bincount(minlength=len(sizes))
    last = (starts + num_alive - 1)[drawn]
    return order[torch.minimum(torch.maximum(found, starts[drawn]), last)]


def _numbered(keys: Iterable[Hashable]) -> Int64[Tensor, " N"]:
    """Number the distinct keys from 0, in the order in which they come."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])
