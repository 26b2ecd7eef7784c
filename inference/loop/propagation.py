"""One step of N particles side by side; those that have finished are absorbed.

A finished particle keeps its state and its log-weight bit for bit: its potential is 1 from then
on. A dead particle keeps both as well: its weight of zero stays zero.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from llmsmc.core.particles import where
from llmsmc.core.state_space_model import StateSpaceModel
from llmsmc.core.weights import LogWeights, on_host, uniform
from llmsmc.errors import InputError, NumericalError
from llmsmc.inference.loop.population import Population
from llmsmc.inference.loop.run import Run


def propagate(model: StateSpaceModel, t: int, previous: Any, *, generator: Generator) -> Any:
    """Draw x_t from the transition for unfinished particles, donating the caches of `previous`."""
    previous = model.give_up(previous)
    return absorb(model, model.sample_transition(t, previous, generator=generator), previous)


def begin(run: Run, num_particles: int) -> Population:
    """Draw x_0 from the initial distribution and weigh it."""
    generator = run.generator(0, "propagate")
    particles = run.model.sample_initial(num_particles, generator=generator)
    particles, log_weights = weigh(run, 0, None, particles, uniform(num_particles))
    return Population(particles, log_weights, torch.arange(num_particles))


def extend(run: Run, t: int, parents: Population) -> Population:
    """Draw x_t from the transition and weigh it; the parents must not be extended again."""
    previous, generator = parents.particles, run.generator(t, "propagate")
    particles = propagate(run.model, t, previous, generator=generator)
    particles, log_weights = weigh(run, t, previous, particles, parents.log_weights)
    return replace(parents, particles=particles, log_weights=log_weights)


def begin_guided(run: Run, num_particles: int) -> Population:
    """Draw x_0 from the proposal of the model, if it has one, and weigh it."""
    if not run.model.can_propose():
        return begin(run, num_particles)
    nothing = Population(None, uniform(num_particles), torch.arange(num_particles))
    return _propose(run, 0, nothing)


def extend_guided(run: Run, t: int, parents: Population) -> Population:
    """Draw x_t from the proposal of the model, if it has one, and weigh it."""
    return _propose(run, t, parents) if run.model.can_propose() else extend(run, t, parents)


def _propose(run: Run, t: int, parents: Population) -> Population:
    """The log-potential is the log-likelihood plus the log of transition over proposal density."""
    model, carried = run.model, parents.log_weights
    previous = None if parents.particles is None else model.give_up(parents.particles)
    generator = run.generator(t, "propagate")
    proposed, log_ratio = model.propose(t, previous, run.y(t), len(carried), generator=generator)
    particles = proposed if previous is None else absorb(model, proposed, previous)
    particles, log_likelihood = run.observe(t, previous, particles)
    log_potentials = log_likelihood + on_host(log_ratio)
    log_weights = add_potentials(carried, log_potentials, going_on(model, previous, carried), t)
    return replace(parents, particles=particles, log_weights=log_weights)


def going_on(model: StateSpaceModel, previous: Any, carried: LogWeights) -> Bool[Tensor, " N"]:
    """Return which particles are neither dead nor finished."""
    alive = carried > -math.inf
    return (
        alive
        if previous is None or not model.can_finish()
        else alive & ~model.finished(previous).cpu()
    )


def absorb(model: StateSpaceModel, proposed: Any, previous: Any) -> Any:
    """Return the proposed particles, with finished particles in their previous states."""
    if not model.can_finish():
        return proposed
    finished = model.finished(previous)
    return where(~finished, proposed, previous) if bool(finished.any()) else proposed


def weigh(
    run: Run, t: int, previous: Any, particles: Any, carried: LogWeights
) -> tuple[Any, LogWeights]:
    """Observe the particles; return them and their log-weights.

    The carried log-weights grow by log p(y_t given x_t) where a particle goes on.
    """
    particles, log_potentials = run.observe(t, previous, particles)
    if previous is None or not run.model.can_finish():
        return particles, add_to_living(carried, log_potentials, t)
    mask = going_on(run.model, previous, carried)
    return particles, add_potentials(carried, log_potentials, mask, t)


def add_to_living(log_weights: LogWeights, log_potentials: Tensor, t: int) -> LogWeights:
    """Add the log-potentials of step t to the log-weights of the particles that are not dead.

    Raises:
        InputError, NumericalError: as `add_potentials`.
    """
    # Without NaN and +inf the dead need no mask, since -inf stays -inf.
    if log_potentials.shape == log_weights.shape and float(log_potentials.max()) < math.inf:
        return log_weights + on_host(log_potentials)
    return add_potentials(log_weights, log_potentials, log_weights > -math.inf, t)


def add_potentials(
    log_weights: LogWeights, log_potentials: Tensor, mask: Bool[Tensor, " N"], t: int
) -> LogWeights:
    """Add the log-potentials of step t to the log-weights where `mask`.

    Raises:
        InputError: there is not one log-potential for each particle.
        NumericalError: a log-potential in the mask is NaN or `+inf`.
    """
    if log_potentials.shape != log_weights.shape:
        raise InputError(
            f"Each particle has one log-potential. Got shape {tuple(log_potentials.shape)} at step "
            f"{t}; accepted: {tuple(log_weights.shape)}."
        )
    log_potentials = torch.where(mask, on_host(log_potentials), 0.0)
    if not log_potentials.max() < math.inf:
        bad = int((log_potentials.isnan() | (log_potentials == math.inf)).nonzero()[0])
        raise NumericalError(
            f"The log-potential of particle {bad} at step {t} is {float(log_potentials[bad])}; "
            "accepted: any number below +inf, and -inf to reject the particle."
        )
    return log_weights + log_potentials
