"""Conditional runs leave the posterior of the path as it is."""

from typing import Any

import pytest
import torch

from llmsmc import InputError
from llmsmc.errors import DegenerateWeightsError
from llmsmc.inference import Adaptive, ParticleGibbs, multinomial, systematic
from llmsmc.inference.particle_gibbs import draw_path
from llmsmc.inference.population import Population
from llmsmc.inference.reference import RememberedPath, Trajectory
from llmsmc.inference.run import Run
from llmsmc.inference.ssp_resampler import ssp
from llmsmc.models import TabularLanguageModel
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel
from llmsmc.weights import normalize
from tests.statistics import MAX_Z_OF_MANY
from tests.toys import WALK_OBSERVATIONS, language_with_eos, table_instance, walk

NUM_BATCHES = 40


def chain(
    model: StateSpaceModel,
    algorithm: ParticleGibbs,
    num_sweeps: int,
    observations: Observations | None = None,
) -> list[list[Population]]:
    """The sweeps of one long chain."""
    run = Run(model, observations, RandomStreams(1))
    steps, sweeps = algorithm.sweep(run, None, 0), []
    for number in range(1, num_sweeps + 1):
        reference = draw_path(run, steps, run.generator(number, "reference"))
        steps = algorithm.sweep(run, reference, number)
        sweeps.append(steps)
    return sweeps


def largest_z(model: TabularLanguageModel, algorithm: ParticleGibbs, num_sweeps: int) -> float:
    """Of the probabilities of all paths, by batch means; rare paths are left out."""
    paths = model.paths()
    exact = model.log_target(paths).softmax(0)
    hits = torch.stack(
        [
            normalize(steps[-1].log_weights)
            @ (steps[-1].particles[:, None] == paths).all(2).double()
            for steps in chain(model, algorithm, num_sweeps)
        ]
    )
    means = hits.reshape(NUM_BATCHES, num_sweeps // NUM_BATCHES, -1).mean(1)
    frequent = exact * num_sweeps > 40
    z = (means.mean(0) - exact) / (means.std(0) / NUM_BATCHES**0.5)
    assert int(frequent.sum()) >= 5
    return float(z[frequent].abs().max())


@pytest.mark.parametrize("toy", [table_instance, language_with_eos])
@pytest.mark.parametrize("ancestor_sampling", [True, False])
@pytest.mark.parametrize(
    ("num_particles", "resampler"),
    [(2, Adaptive(multinomial, 1.0)), (3, Adaptive(systematic))],
)
def test_a_long_chain_has_the_posterior(
    toy: Any, num_particles: int, resampler: Any, ancestor_sampling: bool
) -> None:
    algorithm = ParticleGibbs(
        num_particles, resampler=resampler, ancestor_sampling=ancestor_sampling
    )
    assert largest_z(toy(), algorithm, 1000) < MAX_Z_OF_MANY


def test_smoothing_is_that_of_kalman() -> None:
    model = walk()
    algorithm = ParticleGibbs(5, resampler=Adaptive(systematic, 1.0))
    run, values = Run(model, WALK_OBSERVATIONS, RandomStreams(0)), []
    for number, steps in enumerate(chain(model, algorithm, 800, WALK_OBSERVATIONS)):
        path = draw_path(run, steps, RandomStreams(7).generator(number, "path"))
        assert isinstance(path, Trajectory)
        values.append(torch.cat([state[0] for state in path.states]))
    means = torch.stack(values).reshape(NUM_BATCHES, -1, 4).mean(1)
    z = (means.mean(0) - model.smoother(WALK_OBSERVATIONS).means[:, 0]) / means.std(0)
    assert float(z.abs().max()) * NUM_BATCHES**0.5 < MAX_Z_OF_MANY


@pytest.mark.parametrize("ancestor_sampling", [True, False])
def test_the_reference_survives_a_sweep_in_its_slot(ancestor_sampling: bool) -> None:
    model = table_instance()
    run = Run(model, None, RandomStreams(2))
    path = torch.tensor([[2, 0, 1, 1]])
    algorithm = ParticleGibbs(
        3, resampler=Adaptive(multinomial, 1.0), ancestor_sampling=ancestor_sampling
    )
    for number in range(20):
        steps = algorithm.sweep(run, RememberedPath(path), number)
        assert all(int(steps[t].particles[0, t]) == int(path[0, t]) for t in range(4))
        if not ancestor_sampling:
            assert torch.equal(steps[-1].particles[:1], path)
            assert all(int(step.ancestors[0]) == 0 for step in steps)


def test_ancestor_sampling_changes_the_past_more_often() -> None:
    model = table_instance()

    def share_of_new_first_tokens(ancestor_sampling: bool) -> float:
        algorithm = ParticleGibbs(
            3, resampler=Adaptive(multinomial, 1.0), ancestor_sampling=ancestor_sampling
        )
        firsts = [int(steps[-1].particles[0, 0]) for steps in chain(model, algorithm, 400)]
        return sum(a != b for a, b in zip(firsts, firsts[1:], strict=False)) / len(firsts)

    assert share_of_new_first_tokens(True) > 1.3 * share_of_new_first_tokens(False)


def test_the_posterior_pools_the_sweeps() -> None:
    model = table_instance()
    posteriors = list(ParticleGibbs(4, num_sweeps=5, num_warmup=2).iterate(model, seed=0))
    assert [posterior.num_particles for posterior in posteriors] == [4, 8, 12, 16, 20]
    last = posteriors[-1]
    assert len(last.history) == 4
    assert torch.allclose(last.normalized_weights.reshape(5, 4).sum(1), torch.tensor(0.2).double())
    assert last.log_evidence == pytest.approx(posteriors[0].log_evidence)
    assert last.metadata["log_evidence_above"] > -10
    for path in last.trajectories():
        for t in range(4):
            assert torch.equal(path[t, :t], path[-1, :t])


def test_evidence_is_sandwiched() -> None:
    model = table_instance()
    exact = model.log_evidence()
    below, above = [], []
    for seed in range(60):
        posterior = ParticleGibbs(3, num_sweeps=10, num_warmup=10).run(model, seed=seed)
        below.append(posterior.log_evidence)
        above.append(posterior.metadata["log_evidence_above"])
    assert sum(below) / 60 < exact < sum(above) / 60


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="num_particles is a count. Got 1; accepted: an int"):
        ParticleGibbs(1)
    with pytest.raises(InputError, match="Got 'ssp'; accepted: multinomial"):
        ParticleGibbs(4, resampler=ssp)
    dead = TabularLanguageModel.from_functions(
        2, 2, next_token=lambda prefix: [0.5, 0.5], potential=lambda prefix: 0.0
    )
    with pytest.raises(DegenerateWeightsError) as caught:
        ParticleGibbs(3).run(dead, seed=0)
    assert caught.value.posterior is not None
