r"""The particle cascade: each particle decides its number of children without waiting for others.

Particles arrive at step t one at a time. The k-th particle, of weight $w_t^k$, is compared with the
average weight of the particles that have arrived so far, itself included:

$$\bar w_t^k = \frac{1}{k} \sum_{j \le k} w_t^j, \qquad R_t^k = w_t^k / \bar w_t^k .$$

If $R_t^k < 1$, it has one child, of weight $\bar w_t^k$, with probability $R_t^k$, and otherwise
none. If $R_t^k \ge 1$, it has $M = \lfloor R_t^k \rfloor$ or $\lceil R_t^k \rceil$ children of
weight $w_t^k / M$: the smaller number if the particles before it had more than $\min(K, k - 1)$
children in all. Either way the expected weight of the children equals the weight of the parent, for
every history and order of arrivals; the same holds for any other number of children that earlier
arrivals decide. Hence, with K particles launched with weight 1,

$$\hat Z_t = \frac{1}{K} \sum_k w_t^k$$

is unbiased for $p(y_{0:t})$ after any number of launches. A run may stop at any of them, as long as
the decision does not depend on the results.

Particles are launched in waves. A wave goes through all steps before the next one is launched; its
particles arrive one after the other, but are drawn and weighed as one batch. Models keep caches for
one wave at a time, however many there are.

Two measures keep the number of particles near K; with the rule alone, a few uneven weights can grow
into tens of thousands of particles. First, a wave arrives at each step in random order, since in
the order of their parents the weights of children rise, each above the average of those before it.
Second, once a step has 2 K children, each later particle has at most one.

Reference: Paige, Wood, Doucet, Teh (2014). Asynchronous anytime sequential Monte Carlo.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import ClassVar, Final, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.checks import require_choice, require_count
from llmsmc.core.cost import Cost
from llmsmc.core.particles import concatenate, take
from llmsmc.core.randomness import RandomStreams, draw_seed
from llmsmc.core.state_space_model import Observations, StateSpaceModel, Truncated
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.inference.loop.loop import (
    Population,
    Run,
    RunRecorder,
    end_of_step,
    extend,
    init,
    later,
    num_steps,
)
from llmsmc.inference.resampling.scheme import uniforms
from llmsmc.results.estimates import Guarantee
from llmsmc.results.posterior import Posterior

CROWD: Final = 2
"""The multiple of K children at a step beyond which later particles have at most one child."""


@dataclass(frozen=True)
class ParticleCascade(Algorithm):
    """Settings of the particle cascade.

    Attributes:
        num_particles: K, the number of launched particles; about as many arrive at the end.
        wave: the number of particles launched at a time.
        truncated: the rule for particles that the run cuts off unfinished.
        record: whether the posterior keeps the population of every step, for `trajectories`.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    num_particles: int
    _: KW_ONLY
    wave: int = 16
    truncated: Truncated = "keep"
    record: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count("num_particles", self.num_particles)
        require_count("wave", self.wave)
        require_choice("truncated", self.truncated, get_args(Truncated))

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior of all particles so far after every wave; its evidence is unbiased.

        Nothing is yielded while all particles are dead.

        Raises:
            DegenerateWeightsError: all particles of all waves have weight zero; carries the
                posterior.
        """
        run = Run(model, observations, RandomStreams(seed))
        recorder = RunRecorder(self, run)
        horizon = num_steps(model, observations)
        queues: list[Queue] = []
        waves: tuple[tuple[Arrivals, ...], ...] = ()
        num_launched, is_alive = 0, False
        while num_launched < self.num_particles:
            size = min(self.wave, self.num_particles - num_launched)
            num_launched += size
            waves += (tuple(self._cascade(run, len(waves), size, horizon, queues)),)
            is_alive |= waves[-1][-1].is_alive
            build = partial(self._posterior, run, waves, num_launched, recorder.spent())
            if is_alive:
                yield later(build)
            recorder.resume()
        if not is_alive:
            build()  # raises

    def _posterior(
        self,
        run: Run,
        waves: Sequence[tuple["Arrivals", ...]],
        num_launched: int,
        spent: Callable[[], Cost],
    ) -> Posterior:
        """Return the posterior of all waves together."""
        recorder = RunRecorder(self, run, keep=self.record)
        for step in joined(waves, num_launched):
            population, num_finished, truncated = step
            recorder.note(population, population.particles, num_finished)
        return recorder.posterior(truncated, spent=spent, num_launched=num_launched)

    def _cascade(
        self, run: Run, number: int, size: int, horizon: int | None, queues: "list[Queue]"
    ) -> "Iterator[Arrivals]":
        """Launch a wave and let it go through the steps; yield it at each step."""
        generator = run.generator(number, "wave")
        run = replace(run, streams=RandomStreams(draw_seed(generator)))
        t, population = 0, init(run, size)
        # Particles start with weight 1; the sum is divided by K once K is known.
        population = _times(population, math.log(size))
        while True:
            if t == len(queues):
                queues.append(Queue())
            end = end_of_step(run, t, horizon, population, self.truncated)
            population = end.population
            kept = run.model.record(population.particles)
            yield Arrivals(
                replace(population, particles=kept), end.num_finished, end.is_last, end.truncated
            )
            if end.is_last:
                return
            # The weights of siblings side by side would rise, each above those before it.
            order = torch.randperm(len(end.truncated), generator=run.generator(t, "arrival"))
            children = queues[t].branch(
                population.log_weights[order], self.num_particles, run.generator(t, "branch")
            )
            children = children._replace(ancestors=order[children.ancestors])
            if not len(children.ancestors):
                return
            t += 1
            population = extend(run, t, descended(population, children))


class Arrivals(NamedTuple):
    """The part of a wave that arrives at a step.

    Attributes:
        population: the recorded population; ancestors index the wave at the step before.
        num_finished: the number of finished particles.
        is_last: whether the wave ends here.
        truncated: the particles that the end of the run cuts off.
    """

    population: Population
    num_finished: int
    is_last: bool
    truncated: Bool[Tensor, " N"]

    @property
    def is_alive(self) -> bool:
        """Whether the wave has arrived at its end, with a particle that has a weight."""
        return self.is_last and bool((self.population.log_weights > -math.inf).any())


class Children(NamedTuple):
    """The children of the particles that arrive together, those of one parent side by side."""

    ancestors: Int64[Tensor, " M"]
    log_weights: Float64[Tensor, " M"]


@dataclass
class Queue:
    """Statistics of the particles that have arrived at a step.

    Attributes:
        num_arrived: their number.
        log_total: the log of the sum of their weights.
        num_children: the number of their children.
    """

    num_arrived: int = 0
    log_total: Tensor = field(default_factory=lambda: torch.tensor(-math.inf).double())
    num_children: int = 0

    def branch(
        self, log_weights: Float64[Tensor, " N"], num_launched: int, generator: Generator
    ) -> Children:
        """Let particles arrive one after the other, and return their children."""
        first, size = self.num_arrived, len(log_weights)
        # The running average, after each of the arrivals
        log_totals = torch.cat([self.log_total[None], log_weights]).logcumsumexp(0)[1:]
        log_averages = log_totals - torch.arange(first + 1, first + size + 1).double().log()
        ratios = torch.where(log_weights > -math.inf, log_weights - log_averages, -math.inf).exp()
        # Below the average: one child or none
        numbers = (uniforms(size, generator) < ratios).long()
        # Above: a decision on the sum of those before it, so one after the other
        is_above = ratios >= 1
        numbers[is_above] = 0
        born = (self.num_children + numbers.cumsum(0))[is_above].tolist()
        places, above = is_above.nonzero().squeeze(1).tolist(), ratios[is_above].tolist()
        more, chosen = 0, []
        for place, ratio, others in zip(places, above, born, strict=True):
            num_before = others + more
            too_many = num_before > min(num_launched, first + place)
            number = math.floor(ratio) if too_many else math.ceil(ratio)
            chosen.append(min(number, max(CROWD * num_launched - num_before, 1)))
            more += chosen[-1]
        numbers[is_above] = torch.tensor(chosen, dtype=torch.long)
        shares = torch.where(is_above, log_weights - numbers.double().log(), log_averages)
        # Those that arrive next
        self.num_arrived, self.log_total = first + size, log_totals[-1]
        self.num_children += int(numbers.sum())
        ancestors = torch.arange(size).repeat_interleave(numbers)
        return Children(ancestors, shares[ancestors])


def descended(population: Population, children: Children) -> Population:
    """Return the children, in the states of their parents."""
    ancestors, log_weights = children
    return Population(take(population.particles, ancestors), log_weights, ancestors, True)


def joined(
    waves: Sequence[tuple[Arrivals, ...]], num_launched: int
) -> Iterator[tuple[Population, int, Bool[Tensor, " N"]]]:
    """Yield the population of each step of all waves together, of K particles launched.

    A wave that has finished early stays as it is while others go on.

    Yields:
        The population, the number of finished particles, and which of them are truncated.
    """
    offsets = [0] * len(waves)  # of each wave among the particles of the step before
    for t in range(max(map(len, waves))):
        present = [(offsets[w], _at(wave, t)) for w, wave in enumerate(waves)]
        parts = [(offset, arrivals) for offset, arrivals in present if arrivals is not None]
        population = Population(
            concatenate([arrivals.population.particles for _, arrivals in parts]),
            torch.cat([arrivals.population.log_weights for _, arrivals in parts])
            - math.log(num_launched),
            torch.cat([arrivals.population.ancestors + offset for offset, arrivals in parts]),
            resampled=t > 0,
        )
        num_finished = sum(arrivals.num_finished for _, arrivals in parts)
        yield population, num_finished, torch.cat([arrivals.truncated for _, arrivals in parts])
        sizes = [0 if a is None else len(a.population.log_weights) for _, a in present]
        offsets = [sum(sizes[:w]) for w in range(len(waves))]


def _at(wave: tuple[Arrivals, ...], t: int) -> Arrivals | None:
    """Return the part of a wave at step t; None once the wave has died out."""
    if t < len(wave):
        return wave[t]
    last = wave[-1]
    if not last.is_last:
        return None
    places = torch.arange(len(last.truncated))
    return last._replace(population=replace(last.population, ancestors=places))


def _times(population: Population, log_factor: float) -> Population:
    return replace(population, log_weights=population.log_weights + log_factor)
