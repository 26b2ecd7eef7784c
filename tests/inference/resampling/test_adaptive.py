import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import as_log_weights, effective_sample_size
from llmsmc.errors import InputError
from llmsmc.inference import Adaptive, multinomial, systematic

weights = st.lists(st.floats(-20, 20), min_size=1, max_size=12).map(as_log_weights)


def generator() -> torch.Generator:
    return RandomStreams(0).generator(0, "resample")


@given(weights, st.floats(0, 1))
def test_it_resamples_only_below_the_threshold(log_weights: torch.Tensor, share: float) -> None:
    outcome = Adaptive(ess_threshold=share)(log_weights, generator=generator())
    size = len(log_weights)
    assert outcome.resampled == (effective_sample_size(log_weights) < share * size)
    if outcome.resampled:
        expected = systematic(log_weights, generator=generator())
        assert torch.equal(outcome.ancestors, expected.ancestors)
        assert torch.equal(outcome.log_weights, expected.log_weights)
    else:
        assert outcome.ancestors.tolist() == list(range(size))
        assert outcome.log_weights.tolist() == log_weights.tolist()  # bit for bit


@given(weights)
def test_a_threshold_of_zero_never_resamples(log_weights: torch.Tensor) -> None:
    assert not Adaptive(multinomial, 0.0)(log_weights, generator=generator()).resampled


def test_a_threshold_of_one_resamples_unless_all_are_equal() -> None:
    always = Adaptive(ess_threshold=1.0)
    assert always(as_log_weights([0.0, 0.1]), generator=generator()).resampled
    assert not always(as_log_weights([0.1, 0.1]), generator=generator()).resampled


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan])
def test_the_threshold_is_a_fraction(threshold: float) -> None:
    with pytest.raises(InputError, match="ess_threshold"):
        Adaptive(ess_threshold=threshold)


def test_the_number_of_particles_stays() -> None:
    with pytest.raises(InputError, match="num_offspring=3 for 2"):
        Adaptive()(as_log_weights([0.0, 0.0]), generator=generator(), num_offspring=3)
