"""What the recorder of a run makes of it: costs without the caller's time, posteriors on demand."""

import pickle
from collections.abc import Iterator

import pyro.distributions as dist
import pytest
import torch

from llmsmc import Posterior
from llmsmc.core.cost import CLOCK
from llmsmc.inference import (
    SMC2,
    Algorithm,
    BootstrapFilter,
    ParticleCascade,
    ParticleGibbs,
    ParticleMarginalMetropolisHastings,
    TemperedSMC,
)
from llmsmc.inference.loop.loop import RunRecorder
from llmsmc.models import LinearGaussian
from llmsmc.testing.instances import Instance, of_table, table_without_end

WALK = LinearGaussian(
    initial_mean=0.0,
    initial_covariance=1.0,
    transition_matrix=1.0,
    transition_covariance=0.5,
    observation_matrix=1.0,
    observation_covariance=1.0,
)
NUMBERS = [torch.tensor([0.3]), torch.tensor([-0.2]), torch.tensor([0.9])]
PRIOR = {"transition_covariance": dist.Gamma(2.0, 2.0)}
CHAIN = ParticleMarginalMetropolisHastings(
    PRIOR, num_iterations=4, num_warmup=2, inner=BootstrapFilter(5)
)


def table() -> Instance:
    return of_table("table", table_without_end())


runs = pytest.mark.parametrize(
    "algorithm",
    [
        BootstrapFilter(8),
        ParticleCascade(8, wave=2),
        ParticleGibbs(4, num_sweeps=3),
        TemperedSMC(8, ladder=(0.5, 1.0)),
        SMC2(PRIOR, num_parameters=6, num_particles=5),
        CHAIN,
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)


def posteriors(algorithm: Algorithm) -> Iterator[Posterior]:
    if isinstance(algorithm, TemperedSMC):
        return algorithm.iterate(table().model, seed=0)
    return algorithm.iterate(WALK, NUMBERS, seed=0)


@runs
def test_the_time_of_the_caller_is_no_cost(algorithm: Algorithm) -> None:
    time = 0.0

    def ticking() -> float:
        nonlocal time
        time += 1.0
        return time

    token = CLOCK.set(ticking)
    try:
        found = []
        for posterior in posteriors(algorithm):
            time += 1e6
            found.append(posterior.cost.seconds)
    finally:
        CLOCK.reset(token)
    assert 0 < found[0] < found[-1] < 1e6


@runs
def test_posteriors_that_are_read_late_are_those_of_their_step(algorithm: Algorithm) -> None:
    early = [posterior.log_weights.tolist() for posterior in posteriors(algorithm)]
    late = [posterior.log_weights.tolist() for posterior in list(posteriors(algorithm))]
    assert early == late
    assert len({str(weights) for weights in early}) > 1


@runs
def test_only_posteriors_that_are_read_are_built(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_built, build = 0, RunRecorder._build

    def counting(self: RunRecorder, *parts: object) -> Posterior:
        nonlocal num_built
        num_built += self._algorithm is algorithm
        return build(self, *parts)  # type: ignore[arg-type]

    monkeypatch.setattr(RunRecorder, "_build", counting)
    *_, last = posteriors(algorithm)
    assert num_built == 0
    assert last.history and last.num_particles > 0
    assert num_built == 1


def test_a_posterior_that_nobody_has_read_can_be_pickled() -> None:
    *_, last = posteriors(BootstrapFilter(8))
    again = pickle.loads(pickle.dumps(last))
    assert torch.equal(again.log_weights, last.log_weights)
    assert repr(again) == repr(last)
    with pytest.raises(AttributeError, match="no attribute 'mood'"):
        _ = last.mood
