"""The weighted particles after a step, and the draw of the parents of the next ones."""

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
    """The weighted particles after a step, with their ancestors.

    Attributes:
        particles: N states.
        log_weights: carried, never renormalised.
        ancestors: the parents among the particles of the step before.
        resampled: whether the parents were drawn anew.
        acceptance_rate: the acceptance rate of the moves of the step; None without moves.
        previous: the states of the step before that the particles come from, if they are kept.
        merged: the record of merged particles; None where an algorithm never merges.
    """

    particles: Any
    log_weights: LogWeights
    ancestors: Int64[Tensor, " N"]
    resampled: bool = False
    acceptance_rate: float | None = None
    previous: Any = None
    merged: Merged | None = None


def descended(population: Population, ancestors: Int64[Tensor, " N"]) -> Population:
    """Return the particles gathered at `ancestors`; the weights stay in their places."""
    particles = take(population.particles, ancestors)
    return replace(population, particles=particles, ancestors=ancestors, resampled=True)


def resample(run: Run, t: int, population: Population, resampler: Resampler) -> Population:
    """Return the parents of the particles of step t, with their outgoing weights."""
    generator = run.generator(t, "resample")
    ancestors, carried, resampled = resampler(population.log_weights, generator=generator)
    particles, previous = population.particles, population.previous
    if resampled:
        particles = take(particles, ancestors)
        previous = None if previous is None else take(previous, ancestors)
    return Population(particles, carried, ancestors, resampled, previous=previous)
