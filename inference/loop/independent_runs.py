"""N independent runs of the model, side by side: nothing is resampled.

Unweighted runs never evaluate a potential. Weighted runs evaluate potentials as late as possible:
if a state contains its whole past, once for the whole path, after the last step; otherwise at every
step.
"""

from dataclasses import replace

import torch

from llmsmc.core.capabilities import RemembersPath
from llmsmc.core.weights import uniform
from llmsmc.inference.loop import loop
from llmsmc.inference.loop.loop import Population, Run, add_potentials, propagate


def init(run: Run, num_particles: int) -> Population:
    """Draw the initial particles."""
    generator = run.generator(0, "propagate")
    particles = run.model.sample_initial(num_particles, generator=generator)
    return Population(particles, uniform(num_particles), torch.arange(num_particles))


def step(run: Run, t: int, population: Population) -> Population:
    """Advance the particles that have not finished by one step."""
    generator = run.generator(t, "propagate")
    particles = propagate(run, t, population.particles, generator=generator)
    return replace(population, particles=particles)


def init_weighted(run: Run, num_particles: int) -> Population:
    """Draw the initial particles and weigh them, unless the whole path is scored at the end."""
    return (init if run.supports(RemembersPath) else loop.init)(run, num_particles)


def step_weighted(run: Run, t: int, population: Population) -> Population:
    """Advance the particles and weigh them, unless the whole path is scored at the end."""
    return (step if run.supports(RemembersPath) else loop.extend)(run, t, population)


def weigh_paths(run: Run, t: int, population: Population) -> Population:
    """Weigh the final population of step t by the likelihood of its paths, if not yet done."""
    if not run.supports(RemembersPath):
        return population
    particles, log_potentials = run.observe_path(t, population.particles)
    log_weights = add_potentials(population.log_weights, log_potentials, t)
    return replace(population, particles=particles, log_weights=log_weights)
