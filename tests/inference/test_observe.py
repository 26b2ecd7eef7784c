"""Algorithms keep the states that a model returns from its observations."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Generator, Tensor

from llmsmc import check_model
from llmsmc.core.state_space_model import StateSpaceModel
from llmsmc.inference import (
    Algorithm,
    AuxiliaryFilter,
    BeamSearch,
    BestOfN,
    BootstrapFilter,
    DiverseVerifierTreeSearch,
    GuidedFilter,
    IslandFilter,
    ParticleCascade,
    ParticleGibbs,
    ParticleGibbsMove,
    PublishedParticleFilter,
    ResampleMove,
    TemperedSMC,
    TwistedFilter,
    WeightedBestOfN,
)
from llmsmc.testing.instances import guided_table


class Scored(NamedTuple):
    """Sequences, and how many of their tokens have been scored."""

    tokens: Tensor
    num_scored: Tensor


TABLE = guided_table()


class Scoring(StateSpaceModel):
    """The table, whose states note that they have been observed."""

    max_steps = 4

    def sample_initial(self, num_particles: int, *, generator: Generator) -> Scored:
        drawn = TABLE.sample_initial(num_particles, generator=generator)
        return Scored(drawn, torch.zeros(num_particles, dtype=torch.long))

    def sample_transition(self, t: int, previous: Scored, *, generator: Generator) -> Scored:
        drawn = TABLE.sample_transition(t, previous.tokens, generator=generator)
        return previous._replace(tokens=drawn)

    def propose(
        self, t: int, previous: Scored | None, y: Any, num_particles: int, *, generator: Generator
    ) -> tuple[Scored, Tensor]:
        tokens = None if previous is None else previous.tokens
        drawn, log_ratio = TABLE.propose(t, tokens, y, num_particles, generator=generator)
        scored = torch.zeros(num_particles).long() if previous is None else previous.num_scored
        return Scored(drawn, scored), log_ratio

    def finished(self, state: Scored) -> Tensor:
        return TABLE.finished(state.tokens)

    def observe(self, t: int, previous: Any, state: Scored, y: Any) -> tuple[Scored, Tensor]:
        before = None if previous is None else previous.tokens
        values = TABLE.log_likelihood(t, before, state.tokens, y)
        return state._replace(num_scored=TABLE.num_steps(state.tokens)), values

    def observe_path(self, t: int, state: Scored, observations: Any) -> tuple[Scored, Tensor]:
        values = TABLE.path_log_likelihood(t, state.tokens, observations)
        return state._replace(num_scored=TABLE.num_steps(state.tokens)), values

    def path_log_likelihood(self, t: int, state: Scored, observations: Any) -> Tensor:
        return self.observe_path(t, state, observations)[1]

    def log_lookahead(self, t: int, state: Scored, y: Any) -> Tensor:
        return TABLE.log_lookahead(t, state.tokens, y)

    def log_twist(self, t: int, state: Scored, observations: Any) -> Tensor:
        return TABLE.log_twist(t, state.tokens, observations)

    def num_steps(self, state: Scored) -> Tensor:
        return TABLE.num_steps(state.tokens)

    def rewind(self, state: Scored, num_steps: Tensor) -> Scored:
        tokens = TABLE.rewind(state.tokens, num_steps)
        return Scored(tokens, state.num_scored.minimum(num_steps))

    def splice(self, state: Scored, t: int, references: Scored) -> Scored:
        return state._replace(tokens=TABLE.splice(state.tokens, t, references.tokens))

    def log_prior(self, state: Scored) -> Tensor:
        return TABLE.log_prior(state.tokens)


ALGORITHMS: tuple[Algorithm, ...] = (
    BootstrapFilter(16),
    GuidedFilter(16),
    AuxiliaryFilter(16),
    TwistedFilter(16),
    IslandFilter(16),
    ParticleCascade(16, wave=4),
    ParticleGibbs(4, num_sweeps=3, backward_sampling=True),
    ResampleMove(16),
    ResampleMove(16, move=ParticleGibbsMove(ancestor_sampling=True)),
    TemperedSMC(16, ladder=(0.5, 1.0)),
    TemperedSMC(16, num_moves=3, waste_free=True),
    BestOfN(16),
    WeightedBestOfN(16),
    BeamSearch(16),
    DiverseVerifierTreeSearch(16),
    PublishedParticleFilter(16),
)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_the_population_holds_the_states_that_come_back(algorithm: Algorithm) -> None:
    posterior = algorithm.run(Scoring(), seed=0)
    alive = posterior.log_weights > -torch.inf
    states = posterior.particles
    assert torch.equal(states.num_scored[alive], TABLE.num_steps(states.tokens)[alive])


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_noting_what_is_observed_changes_no_outcome(algorithm: Algorithm) -> None:
    noted, plain = algorithm.run(Scoring(), seed=0), algorithm.run(TABLE, seed=0)
    assert torch.equal(noted.log_weights, plain.log_weights)
    assert torch.equal(noted.particles.tokens, plain.particles)


def test_a_model_that_returns_new_states_passes_the_checks() -> None:
    assert "a log-likelihood is a fixed function" in check_model(Scoring())
