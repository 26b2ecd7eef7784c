import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import InputError, check_model
from llmsmc.models import LinearGaussian
from tests.toys import walk

MODEL = LinearGaussian(
    initial_mean=[0.5, -1.0],
    initial_covariance=[[1.0, 0.3], [0.3, 0.8]],
    transition_matrix=[[0.9, 0.4], [-0.3, 0.7]],
    transition_covariance=[[0.4, 0.1], [0.1, 0.3]],
    observation_matrix=[[1.0, 0.5], [0.0, 2.0], [1.0, 1.0]],
    observation_covariance=[[0.5, 0.1, 0.0], [0.1, 0.6, 0.0], [0.0, 0.0, 0.7]],
)


def joint_gaussian(num_steps: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (x_0, ..., x_{T-1}, y_0, ..., y_{T-1}), written out as one vector.

    With B the lower-triangular matrix of the powers of A, the states are B times the independent
    initial state and noises.
    """
    a, h = MODEL.transition_matrix, MODEL.observation_matrix
    blocks = [
        [
            torch.linalg.matrix_power(a, t - s) if s <= t else torch.zeros_like(a)
            for s in range(num_steps)
        ]
        for t in range(num_steps)
    ]
    spread = torch.cat([torch.cat(row, dim=1) for row in blocks])
    noises = [MODEL.initial_covariance] + [MODEL.transition_covariance] * (num_steps - 1)
    covariance = spread @ torch.block_diag(*noises) @ spread.T
    mean = spread[:, :2] @ MODEL.initial_mean
    observe = torch.block_diag(*[h] * num_steps)
    noise = torch.block_diag(*[MODEL.observation_covariance] * num_steps)
    cross = observe @ covariance
    return torch.cat([mean, observe @ mean]), torch.cat(
        [torch.cat([covariance, cross.T], 1), torch.cat([cross, cross @ observe.T + noise], 1)]
    )


def condition(y: Tensor) -> tuple[float, Tensor, Tensor]:
    """The log-density of y and the law of the states given y, from the joint Gaussian."""
    mean, covariance = joint_gaussian(len(y))
    size = 2 * len(y)
    inner, cross = covariance[size:, size:], covariance[:size, size:]
    rest = y.flatten() - mean[size:]
    gain = torch.linalg.solve(inner, cross.T).T
    log_density = dist.MultivariateNormal(mean[size:], inner).log_prob(y.flatten())
    return float(log_density), mean[:size] + gain @ rest, covariance[:size, :size] - gain @ cross.T


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_recursions_are_those_of_one_large_gaussian(num_steps: int) -> None:
    y = torch.randn(num_steps, 3, generator=torch.Generator().manual_seed(0)).double()
    log_density, means, covariance = condition(y)
    assert MODEL.log_evidence(y) == pytest.approx(log_density)
    smoothed = MODEL.smoother(y)
    torch.testing.assert_close(smoothed.means.flatten(), means)
    for t in range(num_steps):
        block = slice(2 * t, 2 * t + 2)
        torch.testing.assert_close(smoothed.covariances[t], covariance[block, block])
        filtered = condition(y[: t + 1])
        torch.testing.assert_close(MODEL.filter(y).means[t], filtered[1][-2:])
        torch.testing.assert_close(MODEL.filter(y).covariances[t], filtered[2][-2:, -2:])


def test_missing_observations_only_predict() -> None:
    y = torch.randn(1, 3, generator=torch.Generator().manual_seed(0)).double()[0]
    filtered = MODEL.filter([y, None])
    torch.testing.assert_close(filtered.means[1], MODEL.transition_matrix @ filtered.means[0])
    assert MODEL.log_evidence([y, None]) == pytest.approx(MODEL.log_evidence([y]))


def test_the_laws_of_a_model() -> None:
    check_model(MODEL, torch.zeros(4, 3))


def test_numbers_are_matrices() -> None:
    walk = LinearGaussian(
        initial_mean=0.0,
        initial_covariance=1.0,
        transition_matrix=1.0,
        transition_covariance=1.0,
        observation_matrix=1.0,
        observation_covariance=1.0,
    )
    expected = dist.Normal(0.0, 2.0**0.5).log_prob(torch.tensor(0.7))
    assert walk.log_evidence([0.7]) == pytest.approx(float(expected))


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="observation_covariance does not fit"):
        LinearGaussian(
            initial_mean=[0.0, 0.0],
            initial_covariance=torch.eye(2),
            transition_matrix=torch.eye(2),
            transition_covariance=torch.eye(2),
            observation_matrix=[[1.0, 0.0]],
            observation_covariance=torch.eye(2),
        )


@pytest.mark.parametrize("y", [torch.zeros(2), torch.tensor([float("nan")])])
def test_an_observation_that_does_not_fit_is_named(y: Tensor) -> None:
    model = walk()
    with pytest.raises(InputError, match="observation of step 1 does not fit"):
        model.log_evidence([torch.zeros(1), y])


def test_other_covariances_change_the_law() -> None:
    walk = LinearGaussian(
        initial_mean=0.0,
        initial_covariance=1.0,
        transition_matrix=1.0,
        transition_covariance=0.25,
        observation_matrix=1.0,
        observation_covariance=1.0,
    )
    changed = walk.with_parameters({"transition_covariance": torch.tensor(4.0)})
    assert float(changed.transition(1, torch.zeros(1, 1, dtype=torch.float64)).variance) == 4.0
    assert changed.log_evidence([0.0, 3.0]) > walk.log_evidence([0.0, 3.0])
    assert float(walk.transition(1, torch.zeros(1, 1, dtype=torch.float64)).variance) == 0.25
