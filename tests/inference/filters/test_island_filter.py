"""Islands: one population in blocks."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmsmc import InputError
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import as_log_weights
from llmsmc.errors import DegenerateWeightsError
from llmsmc.inference import Adaptive, BootstrapFilter, IslandFilter, multinomial, systematic
from llmsmc.inference.resampling.blockwise import Blockwise
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, z_score, z_scores
from tests.toys import language_with_eos, table_without_end

log_weight = st.one_of(st.floats(-30, 30), st.just(-math.inf))


@given(
    weights=st.lists(log_weight, min_size=12, max_size=12).filter(
        lambda values: max(values) > -math.inf
    ),
    num_blocks=st.sampled_from([1, 2, 3, 4, 6, 12]),
    seed=st.integers(0, 2**31),
)
def test_blocks_keep_their_mass_and_their_particles(
    weights: list[float], num_blocks: int, seed: int
) -> None:
    source = RandomStreams(seed).generator(0, "resample")
    log_weights = as_log_weights(weights)
    ancestors, carried, _ = Blockwise(multinomial, num_blocks)(log_weights, generator=source)
    size = 12 // num_blocks
    assert torch.equal(ancestors // size, torch.arange(12) // size)
    before = log_weights.reshape(num_blocks, size).logsumexp(1)
    torch.testing.assert_close(carried.reshape(num_blocks, size).logsumexp(1), before)


@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_evidence_and_measure_are_unbiased(toy, threshold: float) -> None:  # type: ignore[no-untyped-def]
    model = toy()
    paths = model.paths()
    algorithm = IslandFilter(12, 4, Adaptive(systematic, threshold), record=False)
    evidence, measures = [], []
    for seed in range(200):
        try:
            posterior = algorithm.run(model, seed=seed)
        except DegenerateWeightsError as error:
            assert error.posterior is not None
            posterior = error.posterior
        weights = posterior.log_weights.exp()
        evidence.append(float(weights.sum()))
        measures.append(weights @ (posterior.particles[:, None] == paths).all(2).double())
    assert abs(z_score(evidence, math.exp(model.log_evidence()))) < MAX_Z
    measure = torch.stack(measures)
    frequent = (measure > 0).sum(0) >= 30
    z = z_scores(measure, model.log_target(paths).exp())[frequent]
    assert len(z) >= 5 and float(z.abs().max()) < MAX_Z_OF_MANY


def test_islands_that_count_alike_are_rejected() -> None:
    # A wrong variant: the answers of the islands are averaged, whatever their evidence.
    model = table_without_end()
    paths, exact = model.paths(), model.log_target(model.paths()).softmax(0)
    right, wrong = [], []
    for seed in range(200):
        posterior = IslandFilter(24, 12, Adaptive(systematic, 1.0), record=False).run(
            model, seed=seed
        )
        weights = posterior.log_weights.exp().reshape(12, 2)
        hits = (posterior.particles[:, None] == paths).all(2).double()
        right.append(weights.flatten() @ hits / math.exp(model.log_evidence()))
        wrong.append((weights / weights.sum(1, keepdim=True) / 12).flatten() @ hits)
    assert largest_z(right, exact) < MAX_Z_OF_MANY < largest_z(wrong, exact)


def largest_z(measures: list[Tensor], exact: Tensor) -> float:
    measure = torch.stack(measures)
    frequent = (measure > 0).sum(0) >= 30
    return float(z_scores(measure, exact)[frequent].abs().max())


def test_one_island_is_the_bootstrap_filter() -> None:
    model = table_without_end()
    one = IslandFilter(10, 1).run(model, seed=3)
    other = BootstrapFilter(10).run(model, seed=3)
    assert torch.equal(one.particles, other.particles)
    assert torch.equal(one.log_weights, other.log_weights)


def test_islands_are_equally_large() -> None:
    with pytest.raises(InputError, match=r"Got num_particles=10 on 4 islands; accepted: a multi"):
        IslandFilter(10)
    with pytest.raises(InputError, match="num_islands"):
        IslandFilter(10, 0)
    with pytest.raises(InputError, match="accepted: a multiple of 3"):
        Blockwise(systematic, 3)(
            torch.zeros(4).double(), generator=RandomStreams(0).generator(0, "resample")
        )
    assert replace(IslandFilter(12), num_islands=3).num_islands == 3
