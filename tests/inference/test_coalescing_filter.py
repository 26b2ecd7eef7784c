"""Merging what is equal changes no measure, and lowers the variance."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmsmc import InputError
from llmsmc.inference import Adaptive, BootstrapFilter, CoalescingFilter, multinomial, systematic
from llmsmc.inference.coalescing_filter import coalesced
from llmsmc.inference.population import Population
from llmsmc.inference.run import Run
from llmsmc.models.reasoning.model import Reasoning
from llmsmc.randomness import RandomStreams
from tests.statistics import MAX_Z, z_score
from tests.toys import table_without_end


@given(
    weights=st.lists(st.one_of(st.floats(-30, 30), st.just(-math.inf)), min_size=1, max_size=12),
    data=st.data(),
)
def test_the_measure_stays(weights: list[float], data: st.DataObject) -> None:
    size = len(weights)
    states = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    log_weights = torch.tensor(weights, dtype=torch.float64)
    run = Run(table_without_end(), None, RandomStreams(0))
    merged = coalesced(run, Population(states[:, None], log_weights, torch.arange(size)))
    assert len(merged.particles.unique(dim=0)) == len(merged.particles)
    for state in range(4):
        before = log_weights[states == state].exp().sum()
        after = merged.log_weights[merged.particles[:, 0] == state].exp().sum()
        torch.testing.assert_close(after, before)
    for n, parent in enumerate(merged.ancestors.tolist()):
        assert states[parent] == merged.particles[n, 0]
        assert log_weights[parent] == log_weights[states == states[parent]].max()


@pytest.mark.parametrize("scheme", [multinomial, systematic])
def test_the_evidence_is_unbiased(scheme: object) -> None:
    model = table_without_end()
    algorithm = CoalescingFilter(5, scheme)  # type: ignore[arg-type]
    evidence = [math.exp(algorithm.run(model, seed=seed).log_evidence) for seed in range(600)]
    assert abs(z_score(evidence, math.exp(model.log_evidence()))) < MAX_Z


def test_the_variance_is_lower() -> None:
    model = table_without_end()
    exact = math.exp(model.log_evidence())
    spread = {}
    for algorithm in (BootstrapFilter(12, Adaptive(systematic, 1.0)), CoalescingFilter(12)):
        found = [math.exp(algorithm.run(model, seed=s).log_evidence) / exact for s in range(300)]
        spread[type(algorithm)] = float(torch.tensor(found).std())
    assert spread[CoalescingFilter] < spread[BootstrapFilter]


def test_distinct_particles_and_their_paths() -> None:
    posterior = CoalescingFilter(40).run(table_without_end(), seed=0)
    assert len(posterior.particles.unique(dim=0)) == posterior.num_particles < 40
    for path in posterior.trajectories():
        for t in range(4):
            assert torch.equal(path[t, : t + 1], path[-1, : t + 1])


def test_states_without_keys_are_named() -> None:
    with pytest.raises(InputError, match="Got states of type str"):
        table_without_end().identities({"x": "ab"})
    assert Reasoning.identities is not None
