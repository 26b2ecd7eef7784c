"""PMMH and SMC squared against a grid: the exact posterior of a parameter by the Kalman filter."""

import math
from functools import cache
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import InputError, StateSpaceModel
from llmsmc.errors import DegenerateWeightsError
from llmsmc.inference import (
    SMC2,
    BestOfN,
    BootstrapFilter,
    ParticleMarginalMetropolisHastings,
)
from llmsmc.inference.mcmc.unconstrained import Parameters
from llmsmc.models import LinearGaussian
from tests.statistics import MAX_Z, z_score

OBSERVATIONS = [0.4, 1.1, 0.3, 1.9, 2.5, 2.0, 3.4, 2.8]
PRIOR = {"drift": dist.Gamma(2.0, 3.0)}


class LocalLevel(StateSpaceModel):
    drift: Any = 0.5

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous, self.drift)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 0.7)


@cache
def exact() -> tuple[float, float, float]:
    """Mean and standard deviation of the drift, and the log-evidence, by a grid."""
    grid = torch.linspace(0.005, 6.0, 800, dtype=torch.float64)
    log_evidence = torch.tensor(
        [
            LinearGaussian(
                initial_mean=0.0,
                initial_covariance=1.0,
                transition_matrix=1.0,
                transition_covariance=float(value) ** 2,
                observation_matrix=1.0,
                observation_covariance=0.49,
            ).log_evidence([[y] for y in OBSERVATIONS])
            for value in grid
        ],
        dtype=torch.float64,
    )
    joint = PRIOR["drift"].log_prob(grid) + log_evidence
    width = float(grid[1] - grid[0])
    law = joint.softmax(0)
    mean = float(law @ grid)
    spread = math.sqrt(float(law @ (grid - mean).square()))
    return mean, spread, float(joint.logsumexp(0)) + math.log(width)


@pytest.mark.quick
def test_the_chain_has_the_posterior_of_the_grid() -> None:
    mean, spread, _ = exact()
    algorithm = ParticleMarginalMetropolisHastings(
        PRIOR, 480, 60, BootstrapFilter(20, record=False)
    )
    posterior = algorithm.run(LocalLevel(), OBSERVATIONS, seed=0)
    values = posterior.particles["drift"]
    batches = values.reshape(20, -1).mean(1)
    assert abs(z_score(batches, mean)) < MAX_Z
    squares = (values - mean).square().reshape(20, -1).mean(1)
    assert abs(z_score(squares, spread**2)) < MAX_Z
    rate = posterior.history[-1].acceptance_rate
    assert rate is not None and 0.1 < rate < 0.8
    # The standard error knows that successive states are alike.
    error = posterior.standard_error(lambda states: states["drift"])
    naive = float(values.std()) / math.sqrt(len(values))
    assert 1.5 * naive < error
    assert abs(float(values.mean()) - mean) < 4 * error


@pytest.mark.quick
def test_smc_squared_has_the_posterior_and_the_evidence_of_the_grid() -> None:
    mean, _, log_evidence = exact()
    means, evidence = [], []
    for seed in range(10):
        posterior = SMC2(PRIOR, 40, 12, num_moves=1).run(LocalLevel(), OBSERVATIONS, seed=seed)
        means.append(float(posterior.mean(lambda values: values["drift"])))
        evidence.append(math.exp(posterior.log_evidence - log_evidence))
    assert abs(z_score(means, mean)) < MAX_Z
    assert abs(z_score(evidence, 1.0)) < MAX_Z


def test_smc_squared_goes_from_the_prior_on() -> None:
    steps = list(SMC2(PRIOR, 30, 10, num_moves=1).iterate(LocalLevel(), OBSERVATIONS, seed=1))
    assert len(steps) == len(OBSERVATIONS)
    assert len(steps[-1].history) == len(OBSERVATIONS)
    assert any(step.acceptance_rate for step in steps[-1].history)


def test_vectors_and_their_densities() -> None:
    prior = {"scale": dist.Gamma(2.0, 2.0), "law": dist.Dirichlet(torch.tensor([2.0, 1.0, 3.0]))}
    parameters = Parameters(prior)
    generator = torch.Generator().manual_seed(0)
    vectors = parameters.draw(20_000, generator)
    assert vectors.shape == (20_000, 3)
    values = parameters.values(vectors)
    assert values["law"].shape == (20_000, 3)
    torch.testing.assert_close(
        values["law"].mean(0), torch.tensor([1 / 3, 1 / 6, 1 / 2]).double(), atol=0.01, rtol=0
    )
    # The density integrates to one: importance sampling from a wide normal law.
    wide = dist.Normal(torch.zeros(3), 3.0).to_event(1)
    torch.manual_seed(1)
    points = wide.sample((200_000,)).double()
    ratio = (parameters.log_density(points) - wide.log_prob(points.float())).exp()
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.05)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="A prior names laws"):
        SMC2({})
    with pytest.raises(InputError, match="without bias. Got an inner algorithm that promises"):
        ParticleMarginalMetropolisHastings(PRIOR, inner=BestOfN(4))
    with pytest.raises(InputError, match="Got 'speed' for a LocalLevel"):
        LocalLevel().with_parameters({"speed": torch.tensor(1.0)})
    with pytest.raises(InputError, match="continuous laws"):
        SMC2({"drift": dist.Poisson(3.0)}, 4, 4).run(LocalLevel(), OBSERVATIONS, seed=0)


class Impossible(LocalLevel):
    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        return torch.full((len(state),), -math.inf)


def test_what_is_impossible_everywhere() -> None:
    with pytest.raises(InputError, match="Got evidence 0 at all of 8 draws"):
        ParticleMarginalMetropolisHastings(PRIOR).run(Impossible(), OBSERVATIONS, seed=0)
    with pytest.raises(DegenerateWeightsError) as caught:
        SMC2(PRIOR, 4, 4).run(Impossible(), OBSERVATIONS, seed=0)
    assert caught.value.posterior is not None
