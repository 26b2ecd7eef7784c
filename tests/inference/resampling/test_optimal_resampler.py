"""Resampling to fewer, distinct particles."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import as_log_weights, log_evidence
from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.inference.resampling.optimal import optimal, threshold
from tests.statistics import MAX_Z_OF_MANY, z_scores

log_weight = st.one_of(st.floats(-30, 30), st.just(-math.inf), st.just(0.0), st.floats(-1e3, 1e3))
live_weights = (
    st.lists(log_weight, min_size=1, max_size=12)
    .map(as_log_weights)
    .filter(lambda log_weights: bool((log_weights > -math.inf).any()))
)


@given(log_weights=live_weights, data=st.data(), seed=st.integers(0, 2**32))
def test_the_offspring_are_distinct_and_keep_the_mass(
    log_weights: Tensor, data: st.DataObject, seed: int
) -> None:
    size = data.draw(st.integers(1, len(log_weights)))
    source = RandomStreams(seed).generator(0, "resample")
    ancestors, carried, _ = optimal(log_weights, generator=source, num_offspring=size)
    assert len(ancestors) == len(carried) == size == len(set(ancestors.tolist()))
    assert log_evidence(carried) == pytest.approx(log_evidence(log_weights), abs=1e-9)
    assert bool((carried >= log_weights[ancestors] - 1e-9).all())  # nobody loses weight


@given(log_weights=live_weights, data=st.data())
def test_the_threshold_shares_the_places(log_weights: Tensor, data: st.DataObject) -> None:
    weights = (log_weights - log_weights.max()).exp()
    num_alive = int(weights.count_nonzero())
    if num_alive > 1:
        size = data.draw(st.integers(1, num_alive - 1))
        num_kept, scale = threshold(weights, size)
        shares = (scale * weights).clamp(max=1.0)
        assert float(shares.sum()) == pytest.approx(size)
        assert int((scale * weights > 1 + 1e-9).sum()) <= num_kept
        assert num_kept <= int((scale * weights > 1 - 1e-9).sum())


def test_a_threshold_known_by_hand() -> None:
    weights = torch.tensor([0.4, 0.2, 0.15, 0.1, 0.08, 0.07], dtype=torch.float64)
    num_kept, scale = threshold(weights, 3)
    assert num_kept == 1
    assert scale == pytest.approx(10 / 3)


def on_the_wrong_side(weights: Tensor, size: int) -> float:
    """The published mistake: the weight at the threshold counts among those that are kept."""
    ordered = weights.sort(descending=True).values
    for k in range(size):
        scale = (size - k) / float(ordered[k + 1 :].sum())
        if scale * float(ordered[k]) < 1:
            return scale
    return math.inf


def test_the_published_mistake_is_another_number() -> None:
    generator = torch.Generator().manual_seed(0)
    wrong = [
        abs(float((weights * on_the_wrong_side(weights, 5)).clamp(max=1.0).sum()) - 5) > 1e-6
        for weights in torch.rand(200, 12, generator=generator, dtype=torch.float64)
    ]
    assert sum(wrong) > 100


def test_every_particle_keeps_its_weight_on_average() -> None:
    log_weights = as_log_weights([math.log(w) for w in (0.4, 0.2, 0.15, 0.1, 0.08, 0.07)])
    source = RandomStreams(1).generator(0, "resample")
    draws = torch.zeros(3000, 6, dtype=torch.float64)
    for row in draws:
        ancestors, carried, _ = optimal(log_weights, generator=source, num_offspring=3)
        row[ancestors] = carried.exp()
    constant = draws.std(0) == 0
    assert torch.allclose(draws.mean(0)[constant], log_weights.exp()[constant])
    z = z_scores(draws[:, ~constant], log_weights.exp()[~constant])
    assert float(z.abs().max()) < MAX_Z_OF_MANY


def test_no_more_than_there_are() -> None:
    source = RandomStreams(0).generator(0, "resample")
    with pytest.raises(InputError, match="Got num_offspring=4 for 3 particles; accepted: at most"):
        optimal(torch.zeros(3).double(), generator=source, num_offspring=4)
    with pytest.raises(DegenerateWeightsError):
        optimal(torch.full((3,), -math.inf).double(), generator=source, num_offspring=2)
