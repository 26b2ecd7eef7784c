r"""Stochastic volatility: returns whose log-variance wanders around its mean.

$$x_0 \sim N\Bigl(\mu, \frac{\sigma^2}{1 - \rho^2}\Bigr), \qquad
x_t \sim N(\mu + \rho (x_{t-1} - \mu), \sigma^2), \qquad y_t \sim N(0, e^{x_t}).$$

The evidence has no closed form.

Reference: Taylor (1982). Financial returns modelled by the product of two stochastic processes.
"""

import math
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from llmsmc.core.state_space_model import StateSpaceModel
from llmsmc.errors import InputError


@dataclass(frozen=True)
class StochasticVolatility(StateSpaceModel):
    r"""The stationary model with states `[N]` and observations that are numbers.

    Attributes:
        mean: $\mu$, of the log-variance.
        persistence: $\rho$, between -1 and 1.
        volatility: $\sigma$, of the log-variance, positive.
    """

    mean: float = -1.0
    persistence: float = 0.95
    volatility: float = 0.3

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not -1 < self.persistence < 1 or not self.volatility > 0:
            raise InputError(
                "The log-variance is stationary. Got persistence "
                f"{self.persistence} and volatility {self.volatility}; accepted: -1 < persistence "
                "< 1 and volatility > 0."
            )

    def initial(self) -> Any:
        """Return the stationary law."""
        scale = self.volatility / math.sqrt(1.0 - self.persistence**2)
        mean = torch.tensor(self.mean, dtype=torch.float64)
        return dist.Normal(mean, scale)

    def transition(self, t: int, previous: Float[Tensor, " N"]) -> Any:
        """Return the distribution of x_t."""
        return dist.Normal(self.mean + self.persistence * (previous - self.mean), self.volatility)

    def observation(self, t: int, state: Float[Tensor, " N"]) -> Any:
        """Return the distribution of y_t."""
        return dist.Normal(torch.zeros_like(state), (0.5 * state).exp())
