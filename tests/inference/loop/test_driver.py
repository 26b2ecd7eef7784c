"""What the loop does for every algorithm; run on the bootstrap filter."""

import math
from itertools import product
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmsmc import (
    DegenerateWeightsError,
    InputError,
    NumericalError,
    Posterior,
    StateSpaceModel,
)
from llmsmc.core.cost import Cost
from llmsmc.inference import (
    Adaptive,
    BootstrapFilter,
    Greedy,
    Resampler,
    SelfConsistency,
    multinomial,
)
from llmsmc.models import TabularLanguageModel
from llmsmc.registry import RESAMPLERS
from tests.toys import early_stopper, language_with_eos, table_without_end

SCHEMES: list[Resampler] = list(RESAMPLERS.values())


class Walk(StateSpaceModel):
    """A random walk whose potentials are whatever a test wants."""

    max_steps: int | None = 3

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous, 1.0)

    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        return torch.zeros(len(state))


# Step invariants


@pytest.mark.parametrize(
    ("num_particles", "scheme", "threshold"), list(product([1, 3, 8], SCHEMES, [0.0, 0.5, 1.0]))
)
def test_constant_potentials_give_their_product(
    num_particles: int, scheme: Resampler, threshold: float
) -> None:
    class Constant(Walk):
        max_steps = 5

        def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
            return torch.full((len(state),), -1.7, dtype=torch.float64)

    for resampler in (scheme, Adaptive(scheme, threshold)):
        posterior = BootstrapFilter(num_particles, resampler).run(Constant(), seed=0)
        assert posterior.log_evidence == pytest.approx(5 * -1.7, abs=1e-12)


@settings(max_examples=20)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_splitting_a_potential_changes_nothing(share: float, seed: int) -> None:
    class Still(Walk):
        """The state is drawn once; its potential comes in one piece or in two."""

        def __init__(self, shares: list[float]) -> None:
            self.shares, self.max_steps = shares, len(shares)

        def transition(self, t: int, previous: Tensor) -> Any:
            return dist.Delta(previous)

        def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
            return -self.shares[t] * state.double().square()

    algorithm = BootstrapFilter(8, Adaptive(ess_threshold=0.0))
    whole = algorithm.run(Still([1.0]), seed=seed)
    split = algorithm.run(Still([share, 1.0 - share]), seed=seed)
    assert split.log_evidence == pytest.approx(whole.log_evidence, abs=1e-12)


def test_a_step_that_does_nothing_changes_nothing() -> None:
    class Idle(Walk):
        def transition(self, t: int, previous: Tensor) -> Any:
            return dist.Delta(previous)

        def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
            return state if t == 0 else torch.zeros_like(state)

    first, *_, last = BootstrapFilter(8, Adaptive(ess_threshold=0.1)).iterate(Idle(), seed=0)
    assert torch.equal(first.particles, last.particles)
    assert torch.equal(first.log_weights, last.log_weights)
    assert [record.resampled for record in last.history] == [False] * 3


def test_resampling_keeps_the_evidence() -> None:
    class Once(Walk):
        def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
            return state if t == 0 else torch.zeros_like(state)

    for scheme in SCHEMES:
        posterior = BootstrapFilter(8, scheme).run(Once(), seed=0)
        assert [record.resampled for record in posterior.history] == [False, True, True]
        evidence = [record.log_evidence for record in posterior.history]
        assert evidence == pytest.approx([evidence[0]] * 3, abs=1e-12)


def test_without_resampling_a_weight_is_the_product_of_its_potentials() -> None:
    for model in (table_without_end(), language_with_eos()):
        posterior = BootstrapFilter(50, Adaptive(ess_threshold=0.0)).run(model, seed=1)
        expected = model.path_log_likelihood(3, posterior.particles, None) - math.log(50)
        torch.testing.assert_close(posterior.log_weights, expected)


def test_finished_particles_are_untouched() -> None:
    model = language_with_eos()
    previous: Posterior | None = None
    for posterior in BootstrapFilter(50, Adaptive(ess_threshold=0.0)).iterate(model, seed=0):
        if previous is not None:
            finished = model.finished(previous.particles)
            assert torch.equal(posterior.particles[finished], previous.particles[finished])
            assert torch.equal(posterior.log_weights[finished], previous.log_weights[finished])
        previous = posterior
        assert posterior.history[-1].num_finished == int(model.finished(posterior.particles).sum())


def test_no_model_call_once_all_have_finished() -> None:
    class Counting(TabularLanguageModel):
        calls = 0

        def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
            self.calls += 1
            return super().log_likelihood(t, previous, state, y)

        def cost(self) -> Cost:
            return Cost(model_calls=self.calls)

    transitions = [[[1.0, 0.0]]] + [[[1.0, 0.0]] * 2**t for t in range(1, 4)]
    model = Counting(transitions, [[0.5] * 2 ** (t + 1) for t in range(4)], eos=0)
    for _ in range(2):
        posterior = BootstrapFilter(4).run(model, seed=0)
        assert len(posterior.history) == 1
        assert posterior.cost.model_calls == 1  # of this run, not of the model's life
        assert posterior.cost.seconds > 0


# Truncation


def test_truncated_particles_are_reported_and_kept_or_rejected() -> None:
    model = early_stopper(2)
    kept = BootstrapFilter(40).run(model, seed=0)
    cut_off = kept.particles[:, 0] == 1
    assert torch.equal(kept.truncated, cut_off) and 0 < int(cut_off.sum()) < 40
    rejected = BootstrapFilter(40, truncated="reject").run(model, seed=0)
    assert torch.equal(rejected.truncated, cut_off)
    assert torch.equal(rejected.log_weights == -math.inf, cut_off)
    assert torch.equal(rejected.log_weights[~cut_off], kept.log_weights[~cut_off])
    record = rejected.history[-1]
    assert record.log_evidence == rejected.log_evidence < kept.log_evidence
    assert record.effective_sample_size == rejected.effective_sample_size


def test_when_all_are_truncated_the_error_carries_them() -> None:
    model = TabularLanguageModel([[[0.0, 1.0]]], [[1.0, 1.0]], eos=0)
    assert bool(BootstrapFilter(4).run(model, seed=0).truncated.all())
    with pytest.raises(DegenerateWeightsError, match="4 of them truncated") as error:
        BootstrapFilter(4, truncated="reject").run(model, seed=0)
    posterior = error.value.posterior
    assert posterior is not None
    assert posterior.particles.tolist() == [[1]] * 4
    assert bool(posterior.truncated.all())


def test_the_end_of_the_observations_truncates_nobody() -> None:
    class Ending(Walk):
        def finished(self, state: Tensor) -> Tensor:
            return state > 100.0

    assert not bool(BootstrapFilter(4).run(Ending(), [0.0, 0.0], seed=0).truncated.any())
    assert bool(BootstrapFilter(4).run(Ending(), seed=0).truncated.all())


# Numbers that must not occur


class Failing(Walk):
    """Particle 2 gets `value` as its log-potential at step 1, all others zero."""

    def __init__(self, value: float, everywhere: bool = False) -> None:
        self.value, self.everywhere = value, everywhere

    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        values = torch.zeros(len(state))
        values[slice(None) if self.everywhere else 2] = self.value if t == 1 else 0.0
        return values


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_potential_that_is_no_number_names_particle_and_step(value: float) -> None:
    with pytest.raises(NumericalError, match="particle 2 at step 1 is"):
        BootstrapFilter(4).run(Failing(value), seed=0)


def test_a_dead_particle_dies_alone() -> None:
    posterior = BootstrapFilter(4, Adaptive(ess_threshold=0.0)).run(Failing(-math.inf), seed=0)
    assert posterior.log_weights.exp().tolist() == pytest.approx([0.25, 0.25, 0.0, 0.25])
    assert posterior.log_evidence == pytest.approx(math.log(0.75))


def test_the_potential_of_a_dead_particle_does_not_matter() -> None:
    class Undefined(Failing):
        def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
            values = super().log_likelihood(t, previous, state, y)
            values[2] = math.nan if t == 2 else values[2]  # 0 / 0: a ratio after a score of zero
            return values

    algorithm = BootstrapFilter(4, Adaptive(ess_threshold=0.0))
    assert algorithm.run(Undefined(-math.inf), seed=0).log_weights[2] == -math.inf


def test_when_all_are_dead_the_error_names_the_step_and_carries_the_run() -> None:
    with pytest.raises(DegenerateWeightsError, match="All 4 particles .* at step 1") as error:
        BootstrapFilter(4).run(Failing(-math.inf, everywhere=True), seed=0)
    posterior = error.value.posterior
    assert posterior is not None
    assert posterior.log_evidence == -math.inf and len(posterior.history) == 2
    assert posterior.log_weights.tolist() == [-math.inf] * 4
    assert posterior.history[0].log_evidence == pytest.approx(0.0)
    assert posterior.history[1].effective_sample_size == 0.0
    assert posterior.trajectories().shape == (4, 2)


def test_one_potential_for_each_particle() -> None:
    class Matrix(Walk):
        def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
            return torch.zeros(len(state), 1)

    with pytest.raises(InputError, match=r"Got shape \(4, 1\) at step 0; accepted: \(4,\)"):
        BootstrapFilter(4).run(Matrix(), seed=0)


# The horizon


@pytest.mark.parametrize("max_steps", [1, 2, 5])
def test_max_steps_is_the_number_of_steps(max_steps: int) -> None:
    model = Walk()
    model.max_steps = max_steps
    assert len(BootstrapFilter(3).run(model, seed=0).history) == max_steps
    assert len(BootstrapFilter(3).run(model, [None] * 7, seed=0).history) == 7


def test_a_run_without_an_end_is_an_error() -> None:
    model = Walk()
    model.max_steps = None
    with pytest.raises(InputError, match="needs an end"):
        BootstrapFilter(3).run(model)
    with pytest.raises(InputError, match="no observations"):
        BootstrapFilter(3).run(model, [])


def test_finishing_may_be_the_only_end() -> None:
    class UntilPositive(Walk):
        max_steps = None

        def transition(self, t: int, previous: Tensor) -> Any:
            return dist.Normal(previous + 1.0, 1.0)

        def finished(self, state: Tensor) -> Tensor:
            return state > 0

    posterior = BootstrapFilter(10).run(UntilPositive(), seed=0)
    assert bool((posterior.particles > 0).all()) and not bool(posterior.truncated.any())


# Settings, history, reproducibility


@pytest.mark.parametrize("num_particles", [0, -1, True])
def test_the_number_of_particles_is_a_count(num_particles: int) -> None:
    with pytest.raises(InputError, match="num_particles"):
        BootstrapFilter(num_particles)


def test_steps_are_yielded_as_they_happen() -> None:
    model = table_without_end()
    run = BootstrapFilter(8).run(model, seed=3)
    snapshots = list(BootstrapFilter(8).iterate(model, seed=3))
    assert [len(snapshot.history) for snapshot in snapshots] == [1, 2, 3, 4]
    for t, snapshot in enumerate(snapshots):
        assert snapshot.log_evidence == run.history[t].log_evidence
        assert run.recorded is not None and torch.equal(snapshot.particles, run.recorded[t])
    assert run.history[0].num_unique_ancestors == 8
    assert run.algorithm == "BootstrapFilter" and run.guarantee == "unbiased evidence"


def test_trajectories_are_prefixes_of_the_final_states() -> None:
    posterior = BootstrapFilter(16, multinomial).run(table_without_end(), seed=0)
    paths = posterior.trajectories()
    assert paths.shape == (16, 4, 4)
    for t in range(4):
        assert torch.equal(paths[:, t, : t + 1], posterior.particles[:, : t + 1])


def test_populations_are_recorded_only_if_asked() -> None:
    assert BootstrapFilter(4, record=False).run(table_without_end(), seed=0).recorded is None


def test_the_model_says_what_is_kept() -> None:
    class Tidy(Walk):
        def record(self, particles: Tensor) -> Tensor:
            return particles.round()

    posterior = BootstrapFilter(4).run(Tidy(), seed=0)
    kept = posterior.particles
    assert torch.equal(kept, kept.round())
    assert not torch.equal(kept, BootstrapFilter(4).run(Walk(), seed=0).particles)


def same(one: Posterior, other: Posterior) -> bool:
    return torch.equal(one.particles, other.particles) and torch.equal(
        one.log_weights, other.log_weights
    )


@pytest.mark.parametrize("algorithm", [BootstrapFilter(8), SelfConsistency(8)])
def test_a_seed_repeats_a_run_and_no_seed_makes_a_new_one(algorithm: Any) -> None:
    model = table_without_end()
    before = torch.random.get_rng_state()
    assert same(algorithm.run(model, seed=5), algorithm.run(model, seed=5))
    assert not same(algorithm.run(model, seed=5), algorithm.run(model, seed=6))
    first, second = algorithm.run(model), algorithm.run(model)
    assert first.seed != second.seed and not same(first, second)
    assert same(first, algorithm.run(model, seed=first.seed))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_pyro_distributions_do_not_touch_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    assert same(*(BootstrapFilter(8).run(Walk(), seed=5) for _ in range(2)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_greedy_needs_no_seed() -> None:
    model = table_without_end()
    assert same(Greedy().run(model, seed=0), Greedy().run(model, seed=1))
