"""Moves leave the target as it is, and resample-move its evidence unbiased."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from llmsmc import InputError
from llmsmc.core.capabilities import Rewinds
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import uniform
from llmsmc.inference import (
    Adaptive,
    BootstrapFilter,
    Moved,
    ParticleGibbsMove,
    RandomWalk,
    RegenerateSuffix,
    ResampleMove,
    multinomial,
    systematic,
)
from llmsmc.inference.loop.loop import Population, Run
from llmsmc.inference.moves.regenerate_suffix import regenerated
from llmsmc.inference.resampling.scheme import uniforms
from llmsmc.models import HiddenMarkov, TabularLanguageModel
from tests.replicates import check_unbiased, replicates
from tests.statistics import MAX_Z, p_value_of_law, z_score
from tests.toys import WALK_OBSERVATIONS, language_with_eos, table_without_end, walk

NUM_DRAWS = 40_000
LARGEST_P = 1e-6


def p_value_after(
    model: TabularLanguageModel, move: Any, num_moves: int = 1, inverse_temperature: float = 1.0
) -> float:
    """Of the chi-square statistic of the path law after moving exact draws from the target."""
    paths, law = model.paths(), model.log_target(model.paths()).softmax(0)
    source = torch.Generator().manual_seed(5)
    particles = paths[law.multinomial(NUM_DRAWS, replacement=True, generator=source)]
    population = Population(particles, uniform(NUM_DRAWS), torch.arange(NUM_DRAWS))
    run = Run(model, None, RandomStreams(0), inverse_temperature)
    for _ in range(num_moves):
        population, accepted = move(run, model.max_steps - 1, population, generator=source)
    assert 0.02 < float(accepted.double().mean()) < 1
    counts = (population.particles[:, None] == paths).all(2).sum(0).double()
    assert float(counts.sum()) == NUM_DRAWS
    return p_value_of_law(counts, law)


@dataclass(frozen=True)
class ForgetsLengths(RegenerateSuffix):
    """A wrong variant: paths of all lengths are taken to be cut equally often at each step."""

    def __call__(self, run: Run, t: int, population: Population, *, generator: Generator) -> Moved:
        model, old = run.model_as(Rewinds), population.particles
        lengths = model.num_steps(old)
        kept = (uniforms(len(lengths), generator) * lengths).long()
        new = regenerated(run, t, old, kept, generator)
        ratio = run.observe_path(t, new)[1] - run.observe_path(t, old)[1]
        accepted = uniforms(len(lengths), generator).log() < ratio
        particles = torch.where(accepted[:, None], new, old)
        return Moved(replace(population, particles=particles), accepted)


@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
def test_regenerating_a_suffix_keeps_the_law(toy: Any) -> None:
    assert p_value_after(toy(), RegenerateSuffix()) > LARGEST_P
    assert p_value_after(toy(), RegenerateSuffix(), num_moves=5) > LARGEST_P


@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
@pytest.mark.parametrize("ancestor_sampling", [False, True])
def test_a_conditional_run_keeps_the_law(toy: Any, ancestor_sampling: bool) -> None:
    move = ParticleGibbsMove(3, Adaptive(systematic, 1.0), ancestor_sampling)
    assert p_value_after(toy(), move) > LARGEST_P
    assert p_value_after(toy(), move, num_moves=3) > LARGEST_P


def test_forgetting_the_lengths_is_rejected() -> None:
    assert p_value_after(language_with_eos(), ForgetsLengths(), num_moves=5) < LARGEST_P


def test_a_move_at_another_temperature_is_rejected() -> None:
    assert p_value_after(table_without_end(), RegenerateSuffix(), 5, 0.5) < LARGEST_P
    assert p_value_after(table_without_end(), ParticleGibbsMove(), 5, 0.5) < LARGEST_P


CONFIGURATIONS = [
    (3, Adaptive(multinomial, 1.0)),
    (3, Adaptive(systematic, 0.5)),
    (8, Adaptive(systematic, 1.0)),
]


@pytest.mark.parametrize("move", [RegenerateSuffix(), ParticleGibbsMove(3)])
@pytest.mark.parametrize(("num_particles", "resampler"), CONFIGURATIONS)
@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
def test_evidence_and_measure_are_unbiased(
    toy: Any, num_particles: int, resampler: Any, move: Any
) -> None:
    model = toy()
    runs = replicates(
        model,
        num_particles=num_particles,
        resampler=resampler,
        algorithm=partial(ResampleMove, move=move),
    )
    check_unbiased(model, runs, num_paths=5)


@pytest.mark.parametrize(("num_particles", "resampler"), CONFIGURATIONS)
def test_evidence_is_that_of_the_kalman_filter(num_particles: int, resampler: Any) -> None:
    model = walk()
    runs = replicates(
        model, WALK_OBSERVATIONS, num_particles=num_particles, resampler=resampler,
        algorithm=partial(ResampleMove, move=RandomWalk(0.7), num_moves=3),
    )  # fmt: skip
    exact = math.exp(model.log_evidence(WALK_OBSERVATIONS))
    assert abs(z_score(runs.evidence / exact, 1.0)) < MAX_Z


def test_moves_make_copies_different_again() -> None:
    model = table_without_end()
    resampler = Adaptive(systematic, 1.0)
    distinct = {
        algorithm: sum(
            len(algorithm(8, resampler).run(model, seed=seed).particles.unique(dim=0))
            for seed in range(100)
        )
        for algorithm in (BootstrapFilter, ResampleMove)
    }
    assert distinct[ResampleMove] > 1.05 * distinct[BootstrapFilter]


def test_acceptance_rates_are_reported() -> None:
    posterior = ResampleMove(50, Adaptive(systematic, 1.0)).run(table_without_end(), seed=0)
    first, *later = [step.acceptance_rate for step in posterior.history]
    assert first is None
    assert all(rate is not None and 0 < rate < 1 for rate in later)
    still = ResampleMove(50, Adaptive(systematic, 0.0)).run(table_without_end(), seed=0)
    assert all(step.acceptance_rate is None for step in still.history)


class Scoreless(TabularLanguageModel):
    """A language model that cannot score what it has not written, and may not be asked to write."""

    def check_splice(self) -> None:
        raise InputError("no scores")

    def sample_initial(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something is drawn before it is known whether it can be moved")


def test_a_move_is_refused_before_anything_is_drawn() -> None:
    model = Scoreless([[[0.5, 0.5]]], [[1.0, 0.5]])
    with pytest.raises(InputError, match="no scores"):
        ResampleMove(4, move=ParticleGibbsMove(ancestor_sampling=True)).run(model, seed=0)


def test_moves_that_do_not_fit_the_model_are_named() -> None:
    resampler = Adaptive(systematic, 1.0)
    weather = HiddenMarkov([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    with pytest.raises(InputError, match="Got LinearGaussian, which does not"):
        ResampleMove(4, resampler).run(walk(), WALK_OBSERVATIONS, seed=0)
    with pytest.raises(InputError, match="A random walk moves the last state of a Markov model"):
        ResampleMove(4, resampler, move=RandomWalk()).run(table_without_end(), seed=0)
    with pytest.raises(InputError, match="A random walk is made by real numbers"):
        ResampleMove(4, resampler, move=RandomWalk()).run(weather, [0], seed=0)
    with pytest.raises(InputError, match="scale is a length. Got 0"):
        RandomWalk(0)
    with pytest.raises(InputError, match="num_moves"):
        ResampleMove(4, num_moves=0)


def test_rewinding_a_table_keeps_the_first_tokens() -> None:
    state: Tensor = torch.tensor([[0, 1, 2, -1], [1, 1, 1, 1]])
    model = language_with_eos()
    assert model.num_steps(state).tolist() == [3, 4]
    assert model.rewind(state, torch.tensor([0, 2])).tolist() == [[-1] * 4, [1, 1, -1, -1]]
