import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmsmc.core.weights import (
    Weights,
    as_log_weights,
    effective_sample_size,
    log_evidence,
    normalize,
    scaled,
    temper,
    uniform,
)
from llmsmc.errors import DegenerateWeightsError, InputError, NumericalError

finite = st.floats(-1e4, 1e4)
log_weight = st.one_of(finite, st.just(-math.inf), st.sampled_from([0.0, -1.0, 1e4, -1e4]))
any_weights = st.lists(log_weight, min_size=1, max_size=12).map(as_log_weights)
live_weights = any_weights.filter(lambda log_weights: bool((log_weights > -math.inf).any()))
dead = as_log_weights([-math.inf, -math.inf])


@given(any_weights)
def test_effective_sample_size_lies_between_one_and_n(log_weights: Tensor) -> None:
    size = effective_sample_size(log_weights)
    assert size == 0.0 if log_evidence(log_weights) == -math.inf else 1 <= size <= len(log_weights)


@given(st.integers(1, 1000), finite)
def test_equal_weights_are_all_effective(count: int, height: float) -> None:
    assert effective_sample_size(uniform(count) + height) == count
    assert log_evidence(uniform(count)) == pytest.approx(0.0, abs=1e-12)


def test_a_single_living_particle_is_one() -> None:
    assert effective_sample_size(as_log_weights([-math.inf, -1e4, -math.inf])) == 1.0
    assert effective_sample_size(dead) == 0.0


@given(live_weights)
def test_normalized_weights_sum_to_one(log_weights: Tensor) -> None:
    weights = normalize(log_weights)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)
    assert bool((weights[log_weights == -math.inf] == 0.0).all())


@given(live_weights, finite)
def test_a_common_factor_moves_only_the_evidence(log_weights: Tensor, shift: float) -> None:
    shifted = log_weights + shift
    torch.testing.assert_close(normalize(shifted), normalize(log_weights), atol=1e-9, rtol=1e-9)
    assert effective_sample_size(shifted) == pytest.approx(effective_sample_size(log_weights))
    assert log_evidence(shifted) == pytest.approx(log_evidence(log_weights) + shift, abs=1e-8)


@given(live_weights, st.randoms(use_true_random=False))
def test_the_order_of_the_particles_does_not_matter(log_weights: Tensor, random: object) -> None:
    order = list(range(len(log_weights)))
    random.shuffle(order)  # type: ignore[attr-defined]
    permuted = log_weights[order]
    torch.testing.assert_close(normalize(permuted), normalize(log_weights)[order])
    assert effective_sample_size(permuted) == pytest.approx(effective_sample_size(log_weights))
    assert log_evidence(permuted) == pytest.approx(log_evidence(log_weights), abs=1e-9)


@given(live_weights)
def test_nothing_is_edited_in_place(log_weights: Tensor) -> None:
    before = log_weights.clone()
    normalize(log_weights)
    effective_sample_size(log_weights)
    log_evidence(log_weights)
    temper(log_weights, 0.5)
    assert torch.equal(log_weights, before)


@given(live_weights, st.floats(0, 2), st.floats(0, 2))
def test_tempering_twice_multiplies(log_weights: Tensor, first: float, second: float) -> None:
    twice = temper(temper(log_weights, first), second)
    torch.testing.assert_close(twice, temper(log_weights, first * second), atol=1e-6, rtol=1e-9)


def test_tempering_keeps_zero_weights_at_zero() -> None:
    log_weights = as_log_weights([0.0, -3.0, -math.inf])
    assert temper(log_weights, 0.0).tolist() == [0.0, 0.0, -math.inf]
    assert torch.equal(temper(log_weights, 1.0), log_weights)


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=12))
def test_single_precision_input_is_computed_in_double(values: list[float]) -> None:
    single = as_log_weights(torch.tensor(values, dtype=torch.float32))
    assert single.dtype == torch.float64
    assert torch.equal(single, as_log_weights(values))


def test_the_evidence_of_dead_particles() -> None:
    assert log_evidence(dead) == -math.inf
    with pytest.raises(DegenerateWeightsError, match="All 2 weights"):
        normalize(dead)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinite_weights_are_errors_that_name_the_particle(bad: float) -> None:
    with pytest.raises(NumericalError, match="particle 1 is"):
        as_log_weights([0.0, bad, -math.inf])


@pytest.mark.parametrize("shape", [(), (0,), (2, 2)])
def test_log_weights_are_a_vector(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="vector"):
        as_log_weights(torch.zeros(shape))


@pytest.mark.parametrize("exponent", [-0.1, math.nan, math.inf])
def test_inverse_temperatures_are_checked(exponent: float) -> None:
    with pytest.raises(InputError, match="inverse_temperature"):
        temper(uniform(2), exponent)


def test_weights_come_with_their_statistics() -> None:
    log_weights = as_log_weights([-700.0, -701.0, -math.inf])
    found = Weights(log_weights)
    assert torch.equal(found.scaled, scaled(log_weights))
    assert found.log_evidence == log_evidence(log_weights)
    assert found.max_weight == pytest.approx(1 / (1 + math.exp(-1)))
    dead = Weights(as_log_weights([-math.inf] * 2))
    assert (dead.log_evidence, dead.effective_sample_size, dead.max_weight) == (-math.inf, 0.0, 0.0)
    with pytest.raises(DegenerateWeightsError):
        scaled(dead.log_weights)
