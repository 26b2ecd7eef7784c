"""The guarantee of the bootstrap filter: unbiased evidence, properly weighted particles."""

import math
from collections.abc import Callable

import pytest

from llmsmc.core.state_space_model import Observations, Truncated
from llmsmc.inference import Adaptive, BootstrapFilter, Resampler, systematic
from llmsmc.models import LinearGaussian, TabularLanguageModel
from llmsmc.registry import RESAMPLERS
from llmsmc.testing.instances import linear_gaussian
from tests.replicates import check_unbiased, replicates
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, z_score, z_scores
from tests.toys import early_stopper, independent_steps, language_with_eos, table_without_end

SCHEMES = list(RESAMPLERS.values())
CONFIGURATIONS = [(1, Adaptive(systematic, 1.0))]
CONFIGURATIONS += [(num_particles, Adaptive(systematic, 0.0)) for num_particles in (3, 8)]
CONFIGURATIONS += [
    (num_particles, Adaptive(scheme, threshold))
    for num_particles in (3, 8)
    for scheme in SCHEMES
    for threshold in (0.5, 1.0)
]


def name(value: object) -> str:
    if isinstance(value, Adaptive):
        return f"{value.resampler.name}-{value.ess_threshold}"  # type: ignore[attr-defined]
    return str(value)


each_configuration = pytest.mark.parametrize(
    ("num_particles", "resampler"), CONFIGURATIONS, ids=name
)


@each_configuration
@pytest.mark.parametrize(
    "toy", [table_without_end, language_with_eos], ids=["without EOS", "with EOS"]
)
def test_evidence_and_measure_are_unbiased(
    toy: Callable[[], TabularLanguageModel], num_particles: int, resampler: Resampler
) -> None:
    model = toy()
    runs = replicates(model, num_particles=num_particles, resampler=resampler)
    check_unbiased(model, runs, num_paths=min(num_particles, 5))


@each_configuration
def test_evidence_is_that_of_the_kalman_filter(num_particles: int, resampler: Resampler) -> None:
    model, observations = kalman_instance()
    runs = replicates(model, observations, num_particles=num_particles, resampler=resampler)
    exact = math.exp(model.log_evidence(observations))
    assert abs(z_score(runs.evidence / exact, 1.0)) < MAX_Z


def kalman_instance() -> tuple[LinearGaussian, Observations]:
    instance = linear_gaussian()
    assert isinstance(instance.model, LinearGaussian) and instance.observations is not None
    return instance.model, instance.observations


@pytest.mark.parametrize("truncated", ["keep", "reject"])
def test_the_target_under_either_rule_for_truncated_particles(truncated: Truncated) -> None:
    model = early_stopper(3)
    runs = replicates(model, num_particles=3, resampler=Adaptive(), truncated=truncated)
    exact = math.exp(model.log_evidence(truncated=truncated))
    assert exact == pytest.approx(0.3 if truncated == "reject" else 0.3 + 0.5**4)
    assert abs(z_score(runs.evidence, exact)) < MAX_Z


def test_runs_one_by_one_are_unbiased_too() -> None:
    model = independent_steps()
    algorithm = BootstrapFilter(5, Adaptive(ess_threshold=0.8))
    evidence = [math.exp(algorithm.run(model, seed=seed).log_evidence) for seed in range(400)]
    assert abs(z_score(evidence, 0.46**3)) < MAX_Z


@pytest.mark.parametrize("length", [1, 2, 4, 8])
def test_finished_particles_are_absorbed(length: int) -> None:
    # Toy A: the mass of A, which ends at once, must not grow with the length of B.
    model = early_stopper(length)
    runs = replicates(model, num_particles=8, resampler=Adaptive(), num_replicates=400)
    ended = (runs.posterior.particles[:, :1] == 0).double()
    assert abs(float(z_scores(runs.measure(ended), 0.5 * 0.6))) < MAX_Z
    assert model.posterior()[(0,)] == pytest.approx(0.6 / (0.6 + 0.5**length))


def test_many_particles_find_the_posterior() -> None:
    model = language_with_eos()
    posterior = BootstrapFilter(20_000).run(model, seed=0)
    law = posterior.marginal(lambda states: states)
    errors = posterior.standard_error(lambda states: [tuple(row) for row in states.tolist()])
    for path, probability in model.posterior().items():
        if probability > 0.01:
            padded = (*path, -1, -1, -1)[:4]
            assert abs(law[padded] - probability) < MAX_Z_OF_MANY * errors[padded]
    assert posterior.log_evidence == pytest.approx(math.log(6.904838), abs=0.05)


def test_filter_means_are_those_of_the_kalman_filter() -> None:
    model, observations = kalman_instance()
    for t, posterior in enumerate(BootstrapFilter(20_000).iterate(model, observations, seed=0)):
        mean, error = posterior.mean(lambda x: x), posterior.standard_error(lambda x: x)
        z = (mean - model.filter(observations).means[t]) / error
        assert float(z.abs().max()) < MAX_Z
