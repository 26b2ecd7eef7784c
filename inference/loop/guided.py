"""Steps that draw from the proposal of the model, if it has one.

The log-potential is the log-likelihood plus the log of transition over proposal density.
"""

from dataclasses import replace
from typing import Any

from torch import Generator, Tensor

from llmsmc.core import distributions
from llmsmc.core.capabilities import DrawsProposals, Finishes, Proposes
from llmsmc.core.weights import on_host
from llmsmc.inference.loop.loop import (
    Population,
    Run,
    absorb,
    add_potentials,
    extend,
    init,
    nothing,
)


def can_propose(run: Run) -> bool:
    """Return whether the model has a proposal."""
    return run.supports(DrawsProposals) or run.supports(Proposes)


def init_guided(run: Run, num_particles: int) -> Population:
    """Draw x_0 from the proposal of the model, if it has one, and weigh it."""
    if not can_propose(run):
        return init(run, num_particles)
    return extend_guided(run, 0, nothing(num_particles))


def extend_guided(run: Run, t: int, parents: Population) -> Population:
    """Draw x_t from the proposal of the model, if it has one, and weigh it."""
    if not can_propose(run):
        return extend(run, t, parents)
    previous, finished, carried = parents.particles, None, parents.log_weights
    if previous is not None:
        previous = run.model.donate(previous)
        finished = run.finished(previous) if run.supports(Finishes) else None
    generator = run.generator(t, "propagate")
    drawn, log_ratio = propose(run, t, previous, len(carried), generator)
    particles = absorb(drawn, previous, finished)
    particles, log_likelihood = run.observe(t, previous, particles)
    log_weights = add_potentials(carried, log_likelihood + on_host(log_ratio), t, finished)
    return replace(parents, particles=particles, log_weights=log_weights)


def propose(
    run: Run, t: int, previous: Any, num_particles: int, generator: Generator
) -> tuple[Any, Tensor]:
    """Draw x_t, and return with it the log of transition over proposal density."""
    y = run.y(t)
    if run.supports(DrawsProposals):
        model = run.model_as(DrawsProposals)
        return model.propose(t, previous, y, num_particles, generator=generator)
    proposal = run.model_as(Proposes).proposal(t, previous, y)
    state = distributions.sample(proposal, num_particles, previous, generator=generator)
    log_transition = run.model.log_transition(t, previous, state)
    return state, log_transition - distributions.log_density(proposal, state)
