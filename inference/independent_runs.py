"""N independent runs of the model, side by side: nothing is resampled.

The unweighted runs never ask for a potential. The weighted ones ask as late as they can: if a
state contains its whole past, once for the whole path, after the last step; else at every step.
"""

from dataclasses import replace
from typing import Any

import torch

from llmsmc.inference.driver import Population
from llmsmc.inference.propagation import add_potentials, propagate, weigh
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel
from llmsmc.weights import uniform


def begin(model: StateSpaceModel, num_particles: int, streams: RandomStreams) -> Population:
    """Draw the initial particles."""
    generator = streams.generator(0, "propagate")
    particles = model.sample_initial(num_particles, generator=generator)
    return Population(particles, uniform(num_particles), torch.arange(num_particles))


def step(
    model: StateSpaceModel, t: int, population: Population, streams: RandomStreams
) -> Population:
    """Advance the particles that have not finished by one step."""
    generator = streams.generator(t, "propagate")
    particles = propagate(model, t, population.particles, generator=generator)
    return replace(population, particles=particles)


def begin_weighted(
    model: StateSpaceModel, num_particles: int, y: Any, streams: RandomStreams
) -> Population:
    """Draw the initial particles and weigh them, unless the whole path is scored at the end."""
    new = begin(model, num_particles, streams)
    if model.remembers_path:
        return new
    return replace(new, log_weights=weigh(model, 0, None, new.particles, y, new.log_weights))


def step_weighted(
    model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
) -> Population:
    """Advance the particles and weigh them, unless the whole path is scored at the end."""
    new = step(model, t, population, streams)
    if model.remembers_path:
        return new
    log_weights = weigh(model, t, population.particles, new.particles, y, new.log_weights)
    return replace(new, log_weights=log_weights)


def weigh_paths(
    model: StateSpaceModel, t: int, population: Population, observations: Observations | None
) -> Population:
    """Weigh the final population of step t by the likelihood of its paths, if not yet done."""
    if not model.remembers_path:
        return population
    log_potentials = model.path_log_likelihood(t, population.particles, observations)
    alive = population.log_weights > -torch.inf
    log_weights = add_potentials(population.log_weights, log_potentials, alive, t)
    return replace(population, log_weights=log_weights)
