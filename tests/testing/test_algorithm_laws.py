"""Every algorithm is held to its word by `check_algorithm`, and every broken one is named."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from llmsmc import InputError, check_algorithm
from llmsmc.errors import AlgorithmLawError
from llmsmc.inference import (
    Adaptive,
    AuxiliaryFilter,
    BeamSearch,
    BestOfN,
    BootstrapFilter,
    CoalescingFilter,
    DiverseVerifierTreeSearch,
    EntropicFilter,
    Greedy,
    GuidedFilter,
    IslandFilter,
    NestedFilter,
    ParticleCascade,
    ParticleGibbs,
    ParticleGibbsMove,
    PublishedParticleFilter,
    RandomWalk,
    RejectionFilter,
    ResampleMove,
    SelfConsistency,
    TemperedSMC,
    TwistedFilter,
    WeightedBestOfN,
    multinomial,
    systematic,
)
from llmsmc.inference.loop.loop import Population, Run
from llmsmc.results.estimates import Guarantee
from llmsmc.testing.instances import exact_instances

ALGORITHMS = [
    BootstrapFilter(8),
    BootstrapFilter(3, Adaptive(multinomial, 1.0)),
    CoalescingFilter(8),
    ParticleCascade(8, wave=3),
    IslandFilter(8, 2),
    GuidedFilter(8),
    AuxiliaryFilter(8, Adaptive(systematic, 1.0)),
    TwistedFilter(8),
    ResampleMove(4),
    ResampleMove(4, move=RandomWalk()),
    ResampleMove(4, Adaptive(systematic, 1.0), move=ParticleGibbsMove(2)),
    TemperedSMC(4, (0.3, 1.0), num_moves=1),
    TemperedSMC(8),
    ParticleGibbs(4, num_sweeps=2, num_warmup=3),
    WeightedBestOfN(8),
    EntropicFilter(4),
    NestedFilter(4, candidates=3),
    RejectionFilter(4, max_draws=30, bound=15.0),
    Greedy(),
    SelfConsistency(4),
    BestOfN(4),
    BeamSearch(8),
    DiverseVerifierTreeSearch(8),
    PublishedParticleFilter(4),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: type(algorithm).__name__)
def test_every_algorithm_keeps_its_word(algorithm: Any) -> None:
    one_by_one = isinstance(
        algorithm, TemperedSMC | EntropicFilter | ParticleGibbs | CoalescingFilter | ParticleCascade
    )
    laws = check_algorithm(algorithm, num_runs=100 if one_by_one else 2000)
    promised = {
        "unbiased evidence": "the evidence is unbiased",
        "invariant": "the posterior is right on average",
        "consistent": "the error shrinks over 10, 100, 1000 particles",
    }
    if algorithm.guarantee in promised:
        assert promised[algorithm.guarantee] in laws
    assert "the same seed gives the same run" in laws


class TooMuch(BootstrapFilter):
    def conclude(self, run: Run, t: int, population: Population) -> Population:
        return replace(population, log_weights=population.log_weights + 0.2)


class Doubled(BootstrapFilter):
    """Honest: the particles are properly weighted, up to a constant factor."""

    guarantee: ClassVar[Guarantee] = "properly weighted"

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        return replace(population, log_weights=population.log_weights + math.log(2))


class Flattened(BootstrapFilter):
    """Dishonest: the ratios of the weights are wrong."""

    guarantee: ClassVar[Guarantee] = "properly weighted"

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        return replace(population, log_weights=0.7 * population.log_weights)


def test_a_constant_factor_is_no_fault_of_a_properly_weighted_filter() -> None:
    laws = check_algorithm(Doubled(8))
    assert "the particles are properly weighted" in laws
    assert "the evidence is unbiased" not in laws


def test_wrong_ratios_of_weights_are_a_fault() -> None:
    with pytest.raises(AlgorithmLawError, match="breaks 'the particles are properly weighted'"):
        check_algorithm(Flattened(8))


class Shifted(BootstrapFilter):
    """Each particle has the weight of its neighbour."""

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        return replace(population, log_weights=population.log_weights.roll(1))


class Unseeded(BootstrapFilter):
    def conclude(self, run: Run, t: int, population: Population) -> Population:
        noise = torch.rand(len(population.log_weights), dtype=torch.float64)
        return replace(population, log_weights=population.log_weights + noise)


class Touching(BootstrapFilter):
    def conclude(self, run: Run, t: int, population: Population) -> Population:
        np.random.rand()  # noqa: NPY002
        return population


class Deaf(ParticleGibbs):
    """Begins anew from the same path, whatever was found."""

    def iterate(self, *args: Any, **options: Any) -> Any:
        for posterior in super().iterate(*args, **options):
            yield replace(posterior, log_weights=posterior.log_weights * 0.0)


class NeverCloser(TemperedSMC):
    def iterate(self, *args: Any, **options: Any) -> Any:
        for posterior in super().iterate(*args, **options):
            shifted = posterior.log_weights + 0.3
            yield replace(posterior, log_weights=shifted, log_evidence=posterior.log_evidence + 0.3)


class Sidestepping(BootstrapFilter):
    """Its steps are weighed otherwise than its run."""

    def run(self, *args: Any, **options: Any) -> Any:
        posterior = super().run(*args, **options)
        return replace(posterior, log_weights=posterior.log_weights.roll(1))


@pytest.mark.parametrize(
    ("algorithm", "law"),
    [
        (Sidestepping(8), "a run ends as its steps do"),
        (TooMuch(8), "the evidence is unbiased"),
        (Shifted(8), "the particles are properly weighted"),
        (Unseeded(8), "the same seed gives the same run"),
        (Touching(8), "no global random state is touched"),
        (NeverCloser(8), "the error shrinks over 10, 100, 1000 particles"),
        (Deaf(4), "the log-evidence is the logsumexp of the weights"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_promise_is_named(algorithm: Any, law: str) -> None:
    with pytest.raises(AlgorithmLawError, match=rf"{type(algorithm).__name__} breaks") as caught:
        check_algorithm(algorithm, num_runs=400)
    assert caught.value.law == law
    assert caught.value.instance in {instance.name for instance in exact_instances()}
    if "unbiased" in law:
        assert "standard errors off; accepted: 5.2" in str(caught.value)


def test_an_algorithm_that_fits_no_instance_is_named() -> None:
    with pytest.raises(InputError, match="Got TemperedSMC, which runs on none of the instances"):
        check_algorithm(TemperedSMC(4), instances=exact_instances()[2:])


def test_instances_are_consistent_with_each_other() -> None:
    for instance in exact_instances():
        total = float(instance.exact[: 3 if "hidden" in instance.name else None].sum())
        if instance.name != "linear-Gaussian":
            assert total == pytest.approx(1.0)
        assert math.isfinite(instance.log_evidence)
