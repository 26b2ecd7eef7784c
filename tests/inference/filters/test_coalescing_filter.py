"""Merging what is equal changes no measure, and lowers the variance."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.coalescing import OnePast, chain, instances, of_families, run_many
from llmsmc import InputError, Posterior
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import Adaptive, BootstrapFilter, CoalescingFilter, multinomial, systematic
from llmsmc.inference.filters.coalescing_filter import coalesced, draw_members
from llmsmc.inference.loop.loop import Population, Run, extend, init
from llmsmc.models import HiddenMarkov
from llmsmc.models.reasoning.model import Reasoning
from tests.statistics import MAX_Z, p_value_of_law, z_score
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
    parents = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    merged = coalesced(run, Population(states[:, None], log_weights, parents), branches_evenly=True)
    assert merged.merged is not None
    pairs = torch.stack([merged.particles[:, 0], merged.ancestors], 1)
    assert len(torch.unique(pairs, dim=0)) == len(pairs)
    for n, (state, parent) in enumerate(pairs.tolist()):
        alike = (states == state) & (parents == parent)
        torch.testing.assert_close(
            merged.log_weights[n].exp(), log_weights[alike].exp().sum(), rtol=1e-9, atol=0.0
        )
        assert merged.merged.multiplicities[n] == alike.sum()
    kinds = merged.merged.kinds
    assert torch.equal(kinds[:, None] == kinds, pairs[:, :1] == pairs[:, 0])


@given(data=st.data())
def test_members_are_drawn_by_their_weights(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    groups = torch.unique(groups, return_inverse=True)[1]
    weights = torch.tensor(
        data.draw(st.lists(st.sampled_from([0.0, 1e-9, 0.5, 2.0]), min_size=size, max_size=size)),
        dtype=torch.float64,
    )
    alive = torch.zeros(int(groups.max()) + 1).double().index_add(0, groups, weights) > 0
    if not bool(alive.any()):
        return
    drawn = alive.nonzero().squeeze(1).repeat(50)
    members = draw_members(drawn, weights.log(), groups, generator=torch.Generator().manual_seed(0))
    assert torch.equal(groups[members], drawn)
    assert bool((weights[members] > 0).all())


def test_a_parent_is_drawn_as_often_as_it_weighs() -> None:
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    groups = torch.tensor([0, 1, 0, 1])
    drawn = torch.tensor([0, 1]).repeat_interleave(30_000)
    members = draw_members(drawn, weights.log(), groups, generator=torch.Generator().manual_seed(1))
    law = torch.tensor([1 / 8, 1 / 6, 3 / 8, 1 / 3])
    assert p_value_of_law(members.bincount(minlength=4), law) > 1e-5
    assert p_value_of_law(members.bincount(minlength=4), torch.full((4,), 0.25)) < 1e-5


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


TWO_STATES, LASTING, FIVE_STATES, LANGUAGE = instances()


@pytest.mark.parametrize(
    ("smoothing", "scheme"),
    [(TWO_STATES, systematic), (TWO_STATES, multinomial), (LASTING, systematic)],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", None)),
)
def test_smoothed_means_and_their_standard_errors(smoothing: object, scheme: object) -> None:
    algorithm = CoalescingFilter(300, scheme)  # type: ignore[arg-type]
    runs = run_many(smoothing, algorithm, 60)  # type: ignore[arg-type]
    assert runs.z_of_means() < MAX_Z
    assert abs(runs.z_of_evidence()) < MAX_Z
    # 60 runs: five standard errors of .95 are .14, and of .85 .23; few forefathers are left of the
    # first step of six.
    assert bool((runs.coverage() > (0.81 if smoothing is TWO_STATES else 0.62)).all())
    ratio = runs.errors.square().mean(0) / runs.means.var(0)
    assert bool(((ratio > 0.5) & (ratio < 2.0)).all()), ratio
    assert runs.coverage_of_evidence() > 0.81


def test_wrong_ones_are_rejected() -> None:
    one_past = run_many(LASTING, OnePast(300), 20)
    assert one_past.z_of_means() > MAX_Z
    assert float(one_past.coverage().min()) < 0.2
    families = run_many(TWO_STATES, CoalescingFilter(300), 20, of_families)
    assert bool((families.errors.square().mean(0) > 4 * families.means.var(0)).all())


def test_the_posterior_of_paths_in_all_its_forms(tmp_path: Path) -> None:
    exact = TWO_STATES.exact
    posterior = CoalescingFilter(5000).run(TWO_STATES.model, TWO_STATES.observations, seed=1)
    paths = posterior.trajectories()
    assert len(paths.unique(dim=0)) == len(paths) == posterior.num_particles <= 16
    means = posterior.mean(lambda x: paths)
    errors = posterior.standard_error(lambda x: paths)
    assert bool(((means - exact).abs() < 4 * errors).all())
    assert posterior.standard_error(lambda x: x.double()) == pytest.approx(float(errors[-1]))
    drawn = posterior.to_arviz(num_draws=4000).posterior["x"].values.mean((0, 1))
    torch.testing.assert_close(torch.tensor(drawn), means, atol=0.01, rtol=0)
    posterior.save(tmp_path / "saved")
    loaded = Posterior.load(tmp_path / "saved")
    assert torch.equal(loaded.trajectories(), paths)
    assert torch.equal(loaded.standard_error(lambda x: paths), errors)
    assert loaded.log_evidence_variance == posterior.log_evidence_variance
    assert set(posterior.sample(100, seed=0).tolist()) == {0, 1}
    again = CoalescingFilter(5000).run(TWO_STATES.model, TWO_STATES.observations, seed=1)
    assert torch.equal(again.trajectories(), paths)


KNOWN_START = ([1.0, 0, 0], [[0.7, 0.2, 0.1], [0, 0.8, 0.2], [0, 0, 1]], [[0.8], [0.4], [0.1]])
ONE_ALIVE = ([0.5, 0.5], [[0.6, 0.4], [0.3, 0.7]], [[0.5], [0.0]])


@pytest.mark.parametrize(("initial", "transition", "seen"), [KNOWN_START, ONE_ALIVE])
def test_what_is_certain_has_no_error(initial: Any, transition: Any, seen: Any) -> None:
    model = HiddenMarkov(initial, transition, [[p, 1 - p] for (p,) in seen])
    posterior = CoalescingFilter(300).run(model, [0, 1, 1, 1], seed=0)
    errors = posterior.standard_error(lambda x: posterior.trajectories())
    assert errors[0] == 0
    assert bool((errors[1:3] > 0).all())


def test_where_nothing_is_learned_it_says_so() -> None:
    lasting = chain("lasting", [[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.1, 0.9]], [0, 1] * 20)
    posterior = CoalescingFilter(10).run(lasting.model, lasting.observations, seed=0)
    paths = posterior.trajectories()
    assert len(paths[:, 0].unique()) == 1  # all have one forefather
    assert math.isnan(posterior.standard_error(lambda x: paths[:, 0]))
    assert posterior.standard_error(lambda x: x) > 0


def one_particle_a_text(num_particles: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The filter as it is where each state has one past: merge all that is equal."""
    run = Run(table_without_end(), None, RandomStreams(seed))
    population = init(run, num_particles)
    for t in range(4):
        if t > 0:
            drawn, carried, _ = systematic(
                population.log_weights,
                generator=run.generator(t, "resample"),
                num_offspring=num_particles,
            )
            parents = Population(population.particles[drawn], carried, drawn, True)
            population = extend(run, t, parents)
        kinds: dict[object, int] = {}
        keys = run.model.identities(population.particles)
        kind = torch.tensor([kinds.setdefault(key, len(kinds)) for key in keys])
        firsts = [keys.index(key) for key in kinds]
        sums = [population.log_weights[kind == k].logsumexp(0) for k in range(len(kinds))]
        population = Population(
            population.particles[firsts], torch.stack(sums), population.ancestors[firsts]
        )
    return population.particles, population.log_weights


@pytest.mark.parametrize("seed", range(5))
def test_texts_are_as_if_merged_whole(seed: int) -> None:
    particles, log_weights = one_particle_a_text(20, seed)
    posterior = CoalescingFilter(20).run(table_without_end(), seed=seed)
    assert torch.equal(posterior.particles, particles)
    assert torch.equal(posterior.log_weights, log_weights)
