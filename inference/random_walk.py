r"""A random walk of Metropolis on the newest state of each particle.

$$x_t' = x_t + \sigma \, \xi, \quad \xi \sim N(0, I), \qquad \text{accepted with probability }
\min\Bigl(1, \frac{p(x_t' \mid x_{t-1}) \, p(y_t \mid x_t')}
{p(x_t \mid x_{t-1}) \, p(y_t \mid x_t)}\Bigr).$$

The past of the particle stays. For states that are tensors of real numbers.

Reference: Metropolis et al. (1953). Equation of state calculations by fast computing machines.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.errors import InputError
from llmsmc.inference.move import Moved
from llmsmc.inference.population import Population
from llmsmc.inference.resamplers import uniforms
from llmsmc.inference.run import Run
from llmsmc.particles import where
from llmsmc.weights import on_host


@dataclass(frozen=True)
class RandomWalk:
    """The move, for Markov models whose states are tensors.

    Attributes:
        scale: sigma, the standard deviation of a proposed step.
    """

    scale: float | int = 0.5

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 < self.scale < math.inf:
            raise InputError(f"scale is a length. Got {self.scale!r}; accepted: finite, above 0.")

    def check(self, run: Run, population: Population) -> None:
        """Raise `InputError` unless the states are tensors of real numbers."""
        states = population.particles
        if not isinstance(states, Tensor) or not states.is_floating_point():
            raise InputError(
                "A random walk is made by real numbers. Got states of type "
                f"{type(states).__name__}; accepted: tensors of floating point, or another move."
            )

    def __call__(self, run: Run, t: int, population: Population, *, generator: Generator) -> Moved:
        """Move each particle of step t; consumes `generator`."""
        old = population.particles
        noise = torch.randn(old.shape, generator=generator, dtype=old.dtype).to(old.device)
        new = old + self.scale * noise
        log_ratio = _log_density(run, t, population.previous, new) - _log_density(
            run, t, population.previous, old
        )
        alive = population.log_weights > -math.inf
        accepted = alive & (uniforms(len(old), generator).log() < log_ratio)
        return Moved(replace(population, particles=where(accepted, new, old)), accepted)


def _log_density(run: Run, t: int, previous: Any, state: Tensor) -> Float64[Tensor, " N"]:
    """Log-density of x_t and y_t given x_{t-1}."""
    log_transition = on_host(run.model.log_transition(t, previous, state))
    return log_transition + run.log_likelihood(t, previous, state)
