"""Tempering: unbiased on a fixed ladder, consistent on its own."""

import math
from typing import Any

import pytest
import torch

from benchmarks.wrong_variants import MovesAhead
from llmsmc import InputError
from llmsmc.core.weights import effective_sample_size
from llmsmc.errors import DegenerateWeightsError, NumericalError
from llmsmc.inference import TemperedSMC, multinomial, systematic
from llmsmc.inference.resampling.blockwise import Blockwise
from llmsmc.models import TabularLanguageModel
from llmsmc.testing.instances import of_table
from llmsmc.testing.replicates import run_on
from tests.replicates import Replicates, check_unbiased
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, z_score, z_scores
from tests.toys import language_with_eos, table_without_end

LADDER = (0.1, 0.35, 1.0)


@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
@pytest.mark.parametrize(("num_particles", "scheme"), [(3, multinomial), (8, systematic)])
def test_a_fixed_ladder_is_unbiased(toy: Any, num_particles: int, scheme: Any) -> None:
    model, num_runs = toy(), 600
    algorithm = TemperedSMC(
        num_particles * num_runs, LADDER, resampler=Blockwise(scheme, num_runs), num_moves=2
    )
    posterior = algorithm.run(model, seed=0)
    weights = posterior.log_weights.exp().reshape(num_runs, num_particles) * num_runs
    check_unbiased(model, Replicates(posterior, weights), num_paths=5)


def test_paths_are_moved_beyond_the_last_step_of_the_others() -> None:
    """Two paths that have ended early can be moved to one that has not."""
    exact = of_table("ragged", language_with_eos())
    algorithm, measures = TemperedSMC(2, (0.5, 1.0)), []
    for seed in range(300):
        posterior = run_on(algorithm, exact, seed)
        weights = posterior.log_weights.exp()[:, None]
        measures.append((weights * exact.statistics(posterior.particles)).sum(0))
    z = z_scores(torch.stack(measures), exact.exact * exact.evidence)
    assert float(z.abs().max()) < MAX_Z_OF_MANY


@pytest.mark.parametrize("chains", [2, 5])
def test_waste_free_is_unbiased(chains: int) -> None:
    model = table_without_end()
    algorithm = TemperedSMC(3 * chains, LADDER, num_moves=2, waste_free=True)
    evidence = [math.exp(algorithm.run(model, seed=seed).log_evidence) for seed in range(200)]
    assert abs(z_score(evidence, math.exp(model.log_evidence()))) < MAX_Z


def test_weighing_after_the_move_is_rejected() -> None:
    # The published mistake: move by the new target, then weigh by new over old.
    model, num_runs = table_without_end(), 600

    evidence = {}
    for kind in (TemperedSMC, MovesAhead):
        algorithm = kind(
            8 * num_runs, LADDER, resampler=Blockwise(systematic, num_runs), num_moves=10
        )
        weights = algorithm.run(model, seed=1).log_weights.exp().reshape(num_runs, 8)
        exact = math.exp(model.log_evidence()) / num_runs
        evidence[kind] = abs(z_score(weights.sum(1) / exact, 1.0))
    assert evidence[TemperedSMC] < MAX_Z < 6 < evidence[MovesAhead]


def test_an_adaptive_ladder_comes_closer_with_more_particles() -> None:
    model = language_with_eos()
    errors = []
    for num_particles in (10, 100, 1000):
        found = [
            TemperedSMC(num_particles).run(model, seed=seed).log_evidence for seed in range(30)
        ]
        gaps = torch.tensor(found) - model.log_evidence()
        errors.append(float(gaps.square().mean().sqrt()))
    assert errors[2] < 0.5 * errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.1


def test_the_effective_sample_size_falls_to_the_threshold() -> None:
    model = table_without_end()
    history = list(TemperedSMC(200, ess_threshold=0.8, num_moves=1).iterate(model, seed=0))
    sizes = [posterior.effective_sample_size for posterior in history]
    assert sizes[0] == pytest.approx(200)
    assert len(sizes) > 2
    assert all(size == pytest.approx(160, rel=1e-6) for size in sizes[1:-1])
    assert sizes[-1] >= 160


def test_dead_paths_do_not_hold_the_ladder_up() -> None:
    model = TabularLanguageModel.from_functions(
        4, 2, next_token=lambda prefix: [0.25] * 4, potential=lambda prefix: float(prefix[-1] == 0)
    )
    posterior = TemperedSMC(256).run(model, seed=0)
    assert len(posterior.history) == 2  # the prior, and all at once
    assert effective_sample_size(posterior.log_weights) < 64
    with pytest.raises(DegenerateWeightsError) as caught:
        TemperedSMC(1).run(
            TabularLanguageModel.from_functions(
                2, 1, next_token=lambda prefix: [0.5, 0.5], potential=lambda prefix: 0.0
            ),
            seed=0,
        )
    assert caught.value.posterior is not None


@pytest.mark.parametrize(
    "ladder", [(), (0.5,), (0.5, 0.2, 1.0), (0.0, 1.0), (0.5, 1.0, 2.0), (0.5, 0.5, 1.0)]
)
def test_ladders_that_do_not_lead_to_one(ladder: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="A ladder leads from 0 to 1"):
        TemperedSMC(4, ladder)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="accepted: a multiple of 4"):
        TemperedSMC(6, waste_free=True)
    with pytest.raises(InputError, match="ess_threshold"):
        TemperedSMC(6, ess_threshold=1.5)
    assert TemperedSMC(6).guarantee == "consistent"
    assert TemperedSMC(6, LADDER).guarantee == "unbiased evidence"


def test_a_ladder_that_may_lose_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="never reaches 1"):
        TemperedSMC(4, ess_threshold=1.0)
    TemperedSMC(4, (0.5, 1.0), ess_threshold=1.0)


class Steep(TabularLanguageModel):
    """So steep that no number next to an exponent keeps any two particles."""

    def path_log_likelihood(self, t: int, state: Any, observations: Any) -> torch.Tensor:
        """Return the log-likelihood, enlarged."""
        return 1e30 * super().path_log_likelihood(t, state, observations)


def test_a_ladder_that_stands_still_says_where() -> None:
    table = table_without_end()
    kinds = (table.log_transitions, table.log_potentials)
    model = Steep(*([part.exp() for part in kind] for kind in kinds))
    with pytest.raises(NumericalError, match="stands still at exponent"):
        TemperedSMC(20, ess_threshold=0.9).run(model, seed=0)
