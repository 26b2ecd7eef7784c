"""The particle cascade: the evidence is unbiased after every wave."""

import math
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llmsmc import DegenerateWeightsError, InputError, StateSpaceModel
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import BootstrapFilter, ParticleCascade
from llmsmc.inference.filters.particle_cascade import Children, Queue
from llmsmc.models import TabularLanguageModel
from llmsmc.testing.instances import Instance, linear_gaussian, of_table
from llmsmc.testing.replicates import replicate
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, z_score
from tests.toys import early_stopper, language_with_eos, table_without_end

INSTANCES = [
    of_table("table", table_without_end()),
    of_table("EOS", language_with_eos()),
    linear_gaussian(),
]
log_weight = st.one_of(st.floats(-30, 30), st.just(-math.inf))


# A queue


def generator(seed: int) -> torch.Generator:
    return RandomStreams(seed).generator(0, "branch")


def slowly(ratios: list[float], coins: list[float], num_launched: int) -> list[tuple[int, float]]:
    """The rule, one arrival at a time: numbers of children, and the weight of each."""
    total, children, found = 0.0, 0, []
    for k, weight in enumerate(ratios, start=1):
        total += weight
        average = total / k
        ratio = weight / average if total else 0.0
        if ratio < 1:
            number, share = int(coins[k - 1] < ratio), average
        else:
            too_many = children > min(num_launched, k - 1)
            number = math.floor(ratio) if too_many else math.ceil(ratio)
            number = max(min(number, 2 * num_launched - children), 1)
            share = weight / number
        children += number
        found.append((number, share))
    return found


@given(
    weights=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    cuts=st.sets(st.integers(1, 19)),
    num_launched=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_a_queue_keeps_the_rule_however_arrivals_are_batched(
    weights: list[int], cuts: set[int], num_launched: int, seed: int
) -> None:
    queue, source, coins = Queue(), generator(seed), generator(seed)
    edges = sorted({0, len(weights), *(cut for cut in cuts if cut < len(weights))})
    found, drawn = [], []
    for start, end in zip(edges, edges[1:], strict=False):
        batch = torch.tensor(weights[start:end], dtype=torch.float64)
        ancestors, shares = queue.branch(batch.log(), num_launched, source)
        numbers = ancestors.bincount(minlength=len(batch)).tolist()
        found += [(n, share) for n, share in zip(numbers, _of_each(shares, numbers), strict=True)]
        drawn += torch.rand(len(batch), generator=coins, dtype=torch.float64).tolist()
    for (n, share), (number, expected) in zip(
        found, slowly([float(w) for w in weights], drawn, num_launched), strict=True
    ):
        # Where a ratio is a whole number, rounding may put it on either side; its mass is the same.
        assert n == number or abs(n - number) == 1
        if n == number and n:
            assert math.exp(share) == pytest.approx(expected)
    assert queue.num_arrived == len(weights)


def _of_each(shares: Tensor, numbers: list[int]) -> list[float]:
    firsts = [sum(numbers[:n]) for n in range(len(numbers))]
    return [float(shares[f]) if n else math.nan for f, n in zip(firsts, numbers, strict=True)]


def test_the_children_have_the_weight_of_the_parent_on_average() -> None:
    log_weights = torch.tensor([0.0, -3.0, 1.0, -math.inf, 0.2, -0.5], dtype=torch.float64)
    mass = torch.zeros(4_000, 6, dtype=torch.float64)
    for seed in range(len(mass)):
        ancestors, shares = Queue().branch(log_weights, 4, generator(seed))
        mass[seed].index_add_(0, ancestors, shares.exp())
    error = mass.std(0) / len(mass) ** 0.5
    assert float(((mass.mean(0) - log_weights.exp()).abs() / error.clamp(min=1e-9)).max()) < MAX_Z


@given(weights=st.lists(log_weight, min_size=1, max_size=30), seed=st.integers(0, 2**31))
def test_a_queue_dies_out_only_with_all_its_weights(weights: list[float], seed: int) -> None:
    log_weights = torch.tensor(weights, dtype=torch.float64)
    ancestors, shares = Queue().branch(log_weights, 8, generator(seed))
    assert (len(ancestors) > 0) == bool((log_weights > -math.inf).any())
    assert bool((log_weights[ancestors] > -math.inf).all()) and bool(shares.isfinite().all())


def test_the_number_of_particles_stays() -> None:
    for instance in INSTANCES:
        posterior = ParticleCascade(400, wave=20).run(instance.model, instance.observations, seed=0)
        for record in posterior.history:
            assert 300 < len(record.ancestors) < 550


class Uneven(StateSpaceModel):
    """Weights that differ by orders of magnitude, anew at every step."""

    max_steps = 40

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(torch.zeros_like(previous), 1.0)

    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        return 2.0 * state


@pytest.mark.parametrize(("size", "wave"), [(16, 16), (64, 8), (64, 64)])
def test_uneven_weights_do_not_make_a_crowd(size: int, wave: int) -> None:
    for seed in range(5):
        posterior = ParticleCascade(size, wave=wave).run(Uneven(), seed=seed)
        sizes = [len(record.ancestors) for record in posterior.history]
        assert max(sizes) < 4 * size
        assert sum(sizes) / len(sizes) > size / 3


# The whole


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda instance: instance.name)
@pytest.mark.parametrize(("size", "wave"), [(1, 16), (6, 3), (8, 8)])
def test_evidence_and_measure_are_unbiased(instance: Instance, size: int, wave: int) -> None:
    runs = replicate(ParticleCascade(size, wave=wave, record=False), instance, 200)
    assert abs(runs.z_of_evidence()) < MAX_Z
    assert runs.z_of_measures() < MAX_Z_OF_MANY


def test_the_evidence_is_unbiased_after_every_wave() -> None:
    model = table_without_end()
    found: list[list[float]] = [[], [], []]
    for seed in range(200):
        for w, posterior in enumerate(ParticleCascade(6, wave=2).iterate(model, seed=seed)):
            assert posterior.metadata["num_launched"] == 2 * (w + 1)
            found[w].append(math.exp(posterior.log_evidence))
    exact = math.exp(model.log_evidence())
    assert max(abs(z_score(values, exact)) for values in found) < MAX_Z


@pytest.mark.parametrize("truncated", ["keep", "reject"])
def test_the_target_under_either_rule_for_truncated_particles(truncated: Any) -> None:
    model = early_stopper(3)
    algorithm = ParticleCascade(5, wave=2, truncated=truncated)
    evidence = []
    for seed in range(300):
        try:
            evidence.append(math.exp(algorithm.run(model, seed=seed).log_evidence))
        except DegenerateWeightsError:
            evidence.append(0.0)
    assert abs(z_score(evidence, math.exp(model.log_evidence(truncated=truncated)))) < MAX_Z


class Keeping(Queue):
    """Wrong: a child that had to be lucky to be born weighs no more than its parent."""

    def branch(self, log_weights: Tensor, num_launched: int, generator: torch.Generator) -> Any:
        ancestors, shares = super().branch(log_weights, num_launched, generator)
        return Children(ancestors, shares.minimum(log_weights[ancestors]))


def test_children_of_too_little_weight_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = ParticleCascade(24, wave=24, record=False)
    assert abs(replicate(algorithm, INSTANCES[0], 200).z_of_evidence()) < MAX_Z
    monkeypatch.setattr("llmsmc.inference.filters.particle_cascade.Queue", Keeping)
    assert abs(replicate(algorithm, INSTANCES[0], 200).z_of_evidence()) > MAX_Z


# The record


def test_a_seed_repeats_a_run() -> None:
    model = language_with_eos()
    one, same, other = (ParticleCascade(20, wave=6).run(model, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.particles, same.particles)
    assert torch.equal(one.log_weights, same.log_weights)
    assert one.log_evidence != other.log_evidence


def test_waves_differ() -> None:
    particles = ParticleCascade(40, wave=20).run(table_without_end(), seed=0).recorded
    assert particles is not None and not torch.equal(particles[0][:20], particles[0][20:])


def test_trajectories_are_prefixes_of_the_final_states() -> None:
    posterior = ParticleCascade(30, wave=7).run(table_without_end(), seed=0)
    paths = posterior.trajectories()
    for t in range(4):
        assert torch.equal(paths[:, t, : t + 1], posterior.particles[:, : t + 1])


def test_waves_that_end_early_stay() -> None:
    model = language_with_eos()
    for seed in range(5):
        posterior = ParticleCascade(12, wave=1).run(model, seed=seed)
        paths = posterior.trajectories()
        assert torch.equal(paths[:, -1], posterior.particles)
        assert len(posterior.history[-1].ancestors) == posterior.num_particles
        record = posterior.history[-1]
        assert record.num_finished == int(model.finished(posterior.particles).sum())


def test_when_all_are_dead_the_error_carries_the_run() -> None:
    model = TabularLanguageModel([[[0.5, 0.5]], [[0.5, 0.5]] * 2], [[1.0, 1.0], [0.0] * 4])
    with pytest.raises(DegenerateWeightsError, match="particles have weight zero at step 1") as e:
        ParticleCascade(6, wave=2).run(model, seed=0)
    assert e.value.posterior is not None and e.value.posterior.log_evidence == -math.inf


def test_waves_are_counted() -> None:
    with pytest.raises(InputError, match="wave"):
        ParticleCascade(4, wave=0)
    assert replace(ParticleCascade(4), wave=2).wave == 2


def test_it_is_no_worse_than_one_filter_by_much() -> None:
    instance = INSTANCES[0]
    spread = [
        float(replicate(algorithm, instance, 150).evidence.std())
        for algorithm in (BootstrapFilter(24), ParticleCascade(24, wave=6, record=False))
    ]
    assert spread[1] < 2 * spread[0]
