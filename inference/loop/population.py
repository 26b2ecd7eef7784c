"""The weighted particles after a step, and how the parents of the next ones are drawn."""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from llmsmc.core.history import Merged
from llmsmc.core.particles import take
from llmsmc.core.weights import LogWeights
from llmsmc.inference.loop.run import Run
from llmsmc.inference.resampling.scheme import Resampler


@dataclass(frozen=True, eq=False)
class Population:
    """The weighted particles after a step, and where they came from.

    Attributes:
        particles: N states.
        log_weights: carried, never renormalised.
        ancestors: the parents among the particles of the step before.
        resampled: whether the parents were drawn anew.
        acceptance_rate: of the moves made, if any.
        previous: the states of the step before that the particles come from, if they are kept.
        merged: what has been merged, where equal particles are.
    """

    particles: Any
    log_weights: LogWeights
    ancestors: Int64[Tensor, " N"]
    resampled: bool = False
    acceptance_rate: float | None = None
    previous: Any = None
    merged: Merged | None = None


def descended(population: Population, ancestors: Int64[Tensor, " N"]) -> Population:
    """Return the particles with the parents that have been chosen; weights stay in their places."""
    particles = take(population.particles, ancestors)
    return replace(population, particles=particles, ancestors=ancestors, resampled=True)


def resample(run: Run, t: int, population: Population, resampler: Resampler) -> Population:
    """Return the parents of the particles of step t, and the weights that remain to them."""
    generator = run.generator(t, "resample")
    ancestors, carried, resampled = resampler(population.log_weights, generator=generator)
    particles, previous = population.particles, population.previous
    if resampled:
        particles = take(particles, ancestors)
        previous = None if previous is None else take(previous, ancestors)
    return Population(particles, carried, ancestors, resampled, previous=previous)
