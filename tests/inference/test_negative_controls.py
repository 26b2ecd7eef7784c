"""Errors found in other libraries, made on purpose: the tests of unbiasedness reject each of them.

Every control runs beside the right version, through the same comparison with the same threshold.
"""

import math

import pytest
import torch
from torch import Generator, Tensor

from benchmarks.wrong_variants import (
    WeighsFinishedAgain,
    drops_weights,
    fates,
    ratio_increments,
)
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import Adaptive, BootstrapFilter, multinomial, systematic
from llmsmc.inference.resampling.scheme import Resampled, Resampler
from llmsmc.models import TabularLanguageModel
from tests.replicates import Replicates, replicates
from tests.statistics import MAX_Z, z_score, z_scores
from tests.toys import early_stopper, table_without_end


def z_of_evidence(runs: Replicates, model: TabularLanguageModel) -> float:
    return z_score(runs.evidence, math.exp(model.log_evidence()))


# Evidence that forgets the weights carried over a step without resampling


def forgetful_evidence(runs: Replicates, model: TabularLanguageModel) -> Tensor:
    """The product over the steps of the plain means of the potentials."""
    assert runs.posterior.recorded is not None
    product = torch.ones(len(runs.weights), dtype=torch.float64)
    for t, states in enumerate(runs.posterior.recorded):
        potentials = model.log_likelihood(t, None, states, None).exp()
        product = product * potentials.reshape(runs.weights.shape).mean(1)
    return product


@pytest.mark.parametrize(("threshold", "wrong"), [(0.5, True), (1.0, False)])
def test_forgetting_carried_weights(threshold: float, wrong: bool) -> None:
    # Resampling at every step hides the error: hence the thresholds of the unbiasedness tests.
    model, resampler = table_without_end(), Adaptive(ess_threshold=threshold)
    runs = replicates(model, num_particles=8, resampler=resampler)
    assert abs(z_of_evidence(runs, model)) < MAX_Z
    z = z_score(forgetful_evidence(runs, model), math.exp(model.log_evidence()))
    assert (abs(z) > MAX_Z) == wrong


# Increments as ratios, with outgoing weights whose mass is right in expectation only


def blind(
    log_weights: Tensor, *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Draw ancestors uniformly that keep their weights: a random mass, right on average."""
    size = len(log_weights)
    ancestors = torch.randint(size, (size,), generator=generator)
    return Resampled(ancestors, log_weights[ancestors])


@pytest.mark.parametrize(("resampler", "wrong"), [(blind, False), (ratio_increments, True)])
def test_ratio_increments_without_preserved_mass(resampler: Resampler, wrong: bool) -> None:
    model = fates().model
    assert isinstance(model, TabularLanguageModel)
    runs = replicates(model, num_particles=3, resampler=resampler)
    assert (abs(z_of_evidence(runs, model)) > MAX_Z) == wrong


# Finished particles that are weighed again at every step


@pytest.mark.parametrize(
    ("algorithm", "wrong"), [(BootstrapFilter, False), (WeighsFinishedAgain, True)]
)
def test_weighing_finished_particles_again(algorithm: type[BootstrapFilter], wrong: bool) -> None:
    model = early_stopper(4)
    runs = replicates(model, num_particles=8, resampler=Adaptive(), algorithm=algorithm)
    ended = (runs.posterior.particles[:, :1] == 0).double()
    z_of_ended = float(z_scores(runs.measure(ended), 0.3))
    assert (abs(z_of_evidence(runs, model)) > MAX_Z) == wrong
    assert (abs(z_of_ended) > MAX_Z) == wrong


# Weights dropped whenever nothing is resampled


def four_bits() -> TabularLanguageModel:
    """Toy G: uniform bits and a mild potential, which hardly ever triggers resampling."""
    return TabularLanguageModel.from_functions(
        2, 4, next_token=lambda _: [0.5, 0.5], potential=lambda prefix: math.exp(0.4 * prefix[-1])
    )


def test_dropping_weights_when_not_resampling() -> None:
    model = four_bits()
    ones = sum(sum(path) * p for path, p in model.posterior().items())
    assert ones == pytest.approx(2.3948, abs=1e-4)
    evidence = math.exp(model.log_evidence())
    for resampler, wrong in ((Adaptive(), False), (drops_weights, True)):
        runs = replicates(model, num_particles=8, resampler=resampler)
        number = runs.posterior.particles.sum(1, keepdim=True).double()
        z = float(z_scores(runs.measure(number), ones * evidence))
        assert (abs(z) > MAX_Z) == wrong


# The slot of a reference overwritten by a sorted scheme: the law of one slot is not the weights


def test_slots_of_sorted_ancestors_are_not_draws() -> None:
    log_weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    for scheme, wrong in ((multinomial, False), (systematic, True)):
        source = RandomStreams(0).generator(0, "test")
        first = [float(scheme(log_weights, generator=source).ancestors[0] == 0) for _ in range(600)]
        assert (abs(z_score(first, 0.5)) > MAX_Z) == wrong
