r"""The linear-Gaussian model, solved exactly by the Kalman filter.

$$x_0 \sim N(m_0, P_0), \qquad x_t \sim N(A x_{t-1}, Q), \qquad y_t \sim N(H x_t, R).$$

References:
    1. Kalman (1960). A new approach to linear filtering and prediction problems.
    2. Rauch, Tung, Striebel (1965). Maximum likelihood estimates of linear dynamic systems.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.core.distributions import with_gaps
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.errors import InputError

_BLOCK = 16
_MANY = 4096  # below, the calls cost more than the numbers


class Gaussians(NamedTuple):
    """The laws of x_0, ..., x_{T-1} given the observations, each on its own."""

    means: Float64[Tensor, "T d"]
    covariances: Float64[Tensor, "T d d"]


class LinearGaussian(StateSpaceModel):
    """A linear-Gaussian model with states `[N, d]` and observations `[k]`; numbers are 1 x 1.

    >>> walk = LinearGaussian(
    ...     initial_mean=0.0,
    ...     initial_covariance=1.0,
    ...     transition_matrix=1.0,
    ...     transition_covariance=0.25,
    ...     observation_matrix=1.0,
    ...     observation_covariance=1.0,
    ... )
    >>> round(walk.log_evidence([0.0]), 4)  # N(0; 0, 2)
    -1.2655
    """

    def __init__(
        self,
        *,
        initial_mean: Any,
        initial_covariance: Any,
        transition_matrix: Any,
        transition_covariance: Any,
        observation_matrix: Any,
        observation_covariance: Any,
    ) -> None:
        """Create the model; covariances are positive definite."""
        self.initial_mean = torch.as_tensor(initial_mean, dtype=torch.float64).reshape(-1)
        self.initial_covariance = _matrix(initial_covariance)
        self.transition_matrix = _matrix(transition_matrix)
        self.transition_covariance = _matrix(transition_covariance)
        self.observation_matrix = _matrix(observation_matrix)
        self.observation_covariance = _matrix(observation_covariance)
        self._prepare()

    def with_parameters(self, values: Mapping[str, Tensor]) -> "LinearGaussian":
        """Return a copy of the model with other values of its means, matrices or covariances."""
        changed = super().with_parameters(values)
        assert isinstance(changed, LinearGaussian)
        for name in values:
            value = torch.as_tensor(getattr(changed, name), dtype=torch.float64)
            shaped = value.reshape(getattr(self, name).shape) if value.numel() == 1 else value
            setattr(changed, name, shaped)
        changed._prepare()
        return changed

    def initial(self) -> Any:
        """Return the distribution of x_0."""
        return dist.MultivariateNormal(self.initial_mean, scale_tril=self._initial_scale)

    def transition(self, t: int, previous: Float64[Tensor, "N d"]) -> Any:
        """Return the distribution of x_t."""
        mean = previous @ self.transition_matrix.T
        return dist.MultivariateNormal(mean, scale_tril=self._transition_scale)

    def observation(self, t: int, state: Float64[Tensor, "N d"]) -> Any:
        """Return the distribution of y_t."""
        mean = state @ self.observation_matrix.T
        return dist.MultivariateNormal(mean, scale_tril=self._observation_scale)

    def sample_initial(self, num_particles: int, *, generator: Generator) -> Tensor:
        """Draw N states x_0; consumes `generator`."""
        if type(self).initial is not LinearGaussian.initial:
            drawn: Tensor = super().sample_initial(num_particles, generator=generator)
            return drawn
        noise = standard_normal((num_particles, len(self.initial_mean)), generator)
        return _times_(noise, self._initial_scale).add_(self.initial_mean)

    def sample_transition(self, t: int, previous: Tensor, *, generator: Generator) -> Tensor:
        """Draw x_t for each of the N states x_{t-1}; consumes `generator`."""
        if type(self).transition is not LinearGaussian.transition:
            drawn: Tensor = super().sample_transition(t, previous, generator=generator)
            return drawn
        noise = _times_(standard_normal(previous.shape, generator), self._transition_scale)
        return _plus_times_(noise, previous, self.transition_matrix)

    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        """Return log p(y_t given x_t) of each state, `[N]`."""
        if type(self).observation is not LinearGaussian.observation or not self._fits(y):
            return super().log_likelihood(t, previous, state, y)
        if y.shape[0] == 1 == state.shape[1]:
            scaled = (state * self._minus_white_observation).add_(float(y) * self._white)
            return torch.addcmul(self._log_peak, scaled, scaled, value=-0.5, out=scaled).squeeze(1)
        white: Tensor = (y.double() - state @ self.observation_matrix.T) @ self._whitening.T
        return white.square_().sum(1).mul_(-0.5).add_(self._log_peak)

    def _fits(self, y: Any) -> bool:
        if not isinstance(y, Tensor) or y.shape != self._shape_of_y:
            return False
        return math.isfinite(y if y.shape[0] == 1 else y.sum())

    def log_evidence(self, observations: Observations) -> float:
        """Return log p(y_0, ..., y_{T-1})."""
        return self._kalman_filter(observations)[0]

    def filter(self, observations: Observations) -> Gaussians:
        """Return the laws of x_t given y_0, ..., y_t."""
        return self._kalman_filter(observations)[1]

    def smoother(self, observations: Observations) -> Gaussians:
        """Return the laws of x_t given all observations."""
        filtered = self.filter(observations)
        means, covariances = list(filtered.means), list(filtered.covariances)
        for t in reversed(range(len(means) - 1)):
            mean, covariance = self._predict(means[t], covariances[t])
            gain = torch.linalg.solve(covariance, self.transition_matrix @ covariances[t]).T
            means[t] = means[t] + gain @ (means[t + 1] - mean)
            covariances[t] = covariances[t] + gain @ (covariances[t + 1] - covariance) @ gain.T
        return Gaussians(torch.stack(means), torch.stack(covariances))

    def _predict(self, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and covariance one step ahead."""
        ahead = self.transition_matrix @ covariance @ self.transition_matrix.T
        return self.transition_matrix @ mean, ahead + self.transition_covariance

    def _kalman_filter(self, observations: Observations) -> tuple[float, Gaussians]:
        mean, covariance = self.initial_mean, self.initial_covariance
        log_evidence, means, covariances = 0.0, [], []
        for t, y in enumerate(observations):
            if t > 0:
                mean, covariance = self._predict(mean, covariance)
            if y is not None:
                y, present = with_gaps(y, torch.float64)
                y = y.reshape(-1)
                if y.shape != self._shape_of_y or not bool(y.isfinite().all()):
                    raise InputError(
                        f"The observation of step {t} does not fit. Got {y.tolist()}; accepted: "
                        f"{self._shape_of_y[0]} finite numbers, or None where it, or one of them, "
                        "is missing."
                    )
                if present is None:
                    present = torch.ones(len(y), dtype=torch.bool)
                mean, covariance, log_density = self._updated(mean, covariance, y, present)
                log_evidence += log_density
            means.append(mean)
            covariances.append(covariance)
        return log_evidence, Gaussians(torch.stack(means), torch.stack(covariances))

    def _updated(
        self, mean: Tensor, covariance: Tensor, y: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor, float]:
        """Return mean and covariance given what is there of y, and its log-density."""
        there = present.reshape(-1).nonzero().squeeze(1)
        if len(there) == 0:
            return mean, covariance, 0.0
        seen = self.observation_matrix[there]
        cross = seen @ covariance
        innovation = cross @ seen.T + self.observation_covariance[there][:, there]
        law = dist.MultivariateNormal(seen @ mean, innovation)
        gain = torch.linalg.solve(innovation, cross).T
        return (
            mean + gain @ (y[there] - law.loc),
            covariance - gain @ cross,
            float(law.log_prob(y[there])),
        )

    def _prepare(self) -> None:
        self._check_shapes()
        self._initial_scale = torch.linalg.cholesky(self.initial_covariance)
        self._transition_scale = torch.linalg.cholesky(self.transition_covariance)
        self._observation_scale = torch.linalg.cholesky(self.observation_covariance)
        self._whitening = torch.linalg.inv(self._observation_scale)
        log_volume = float(self._observation_scale.diagonal().log().sum())
        log_peak = -0.5 * len(self._whitening) * math.log(2 * math.pi) - log_volume
        self._log_peak = torch.tensor(log_peak, dtype=torch.float64)
        self._minus_white_observation = -self._whitening @ self.observation_matrix
        self._shape_of_y = self.observation_matrix.shape[:1]
        self._white = float(self._whitening[0, 0])  # where y is a number

    def _check_shapes(self) -> None:
        size, num_observed = len(self.initial_mean), len(self.observation_matrix)
        accepted = {
            "initial_covariance": (size, size),
            "transition_matrix": (size, size),
            "transition_covariance": (size, size),
            "observation_matrix": (num_observed, size),
            "observation_covariance": (num_observed, num_observed),
        }
        for name, shape in accepted.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise InputError(f"{name} does not fit. Got shape {got}; accepted: {shape}.")


# A matrix applied to each of N rows, by products of numbers where it is 1 x 1. A name that ends in
# an underscore says that the memory of the first argument is given up: where N is a million, fresh
# memory costs more than the arithmetic.


def _times_(rows: Tensor, matrix: Tensor) -> Tensor:
    return rows.mul_(matrix) if matrix.numel() == 1 else rows @ matrix.T


def _plus_times_(start: Tensor, rows: Tensor, matrix: Tensor) -> Tensor:
    return start.addcmul_(rows, matrix) if matrix.numel() == 1 else start.addmm_(rows, matrix.T)


def _matrix(values: Any) -> Tensor:
    matrix = torch.as_tensor(values, dtype=torch.float64)
    return matrix.reshape(1, 1) if matrix.dim() == 0 else matrix


def standard_normal(shape: Sequence[int], generator: Generator) -> Tensor:
    """Draw float64 numbers from N(0, 1), those of `torch.randn`; consumes `generator`.

    For many numbers this applies the Box-Muller transformation of torch, in blocks of 16, to whole
    vectors. It is twice as fast and gives the same numbers up to rounding.
    """
    count = math.prod(shape)
    if count < _MANY:
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    numbers = torch.rand(count, generator=generator, dtype=torch.float64)
    _box_muller_(numbers[: count - count % _BLOCK])
    if count % _BLOCK:
        rest = torch.rand(_BLOCK, generator=generator, dtype=torch.float64)
        _box_muller_(rest)
        numbers[-_BLOCK:] = rest
    return numbers.view(*shape)


def _box_muller_(numbers: Tensor) -> None:
    """Map the uniform halves of each block to radii and angles, and these to normal numbers."""
    halves = numbers.view(-1, _BLOCK // 2)
    first = torch.arange(0, len(halves), 2)
    radii, angles = halves.index_select(0, first), halves.index_select(0, first + 1)
    radii.neg_().add_(1.0).log_().mul_(-2.0).sqrt_()
    angles.mul_(2 * math.pi)
    cosines = angles.cos().mul_(radii)
    sines = angles.sin_().mul_(radii)
    torch.cat([cosines[:, None], sines[:, None]], 1, out=halves.view(-1, 2, _BLOCK // 2))
