r"""A Metropolis random walk on the newest state of each particle.

$$x_t' = x_t + \sigma \, \xi, \quad \xi \sim N(0, I), \qquad \text{accepted with probability }
\min\Bigl(1, \frac{p(x_t' \mid x_{t-1}) \, p(y_t \mid x_t')}
{p(x_t \mid x_{t-1}) \, p(y_t \mid x_t)}\Bigr).$$

The past of the particle stays. The move works on states that are tensors of real numbers, or trees
of such tensors, and on models that define the real `coordinates` of a state.

Reference: Metropolis et al. (1953). Equation of state calculations by fast computing machines.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.core.capabilities import RemembersPath
from llmsmc.core.particles import components, map_populations, where
from llmsmc.core.weights import on_host
from llmsmc.errors import InputError
from llmsmc.inference.loop.loop import Population, Run
from llmsmc.inference.moves.move import Moved
from llmsmc.inference.resampling.scheme import uniforms


@dataclass(frozen=True)
class RandomWalk:
    """The move, for Markov models whose states are made from real numbers.

    Attributes:
        scale: sigma, the standard deviation of a proposed step.
    """

    scale: float | int = 0.5

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 < self.scale < math.inf:
            raise InputError(f"scale is a length. Got {self.scale!r}; accepted: finite, above 0.")

    def check(self, run: Run) -> None:
        """Raise `InputError` unless states consist of real numbers; draws one state to check."""
        if run.supports(RemembersPath):
            raise InputError(
                "A random walk moves the last state of a Markov model. Got "
                f"{type(run.model).__name__}, whose states are paths; accepted: another move."
            )
        state = run.model.sample_initial(1, generator=torch.Generator().manual_seed(0))
        for _, (values,) in components(run.model.coordinates(state)):
            if not isinstance(values, Tensor) or not values.is_floating_point():
                raise InputError(
                    "A random walk is made by real numbers. Got states of type "
                    f"{type(values).__name__}; accepted: tensors of floating point, or another "
                    "move."
                )

    def __call__(self, run: Run, t: int, population: Population, *, generator: Generator) -> Moved:
        """Move each particle of step t; consumes `generator`."""

        def walk(values: Tensor) -> Tensor:
            noise = torch.randn(values.shape, generator=generator, dtype=values.dtype)
            return values + self.scale * noise.to(values.device)

        old, previous = population.particles, population.previous
        coordinates = map_populations(walk, run.model.coordinates(old))
        new = run.model.at_coordinates(t, previous, coordinates)
        new, log_density = _observed(run, t, previous, new)
        old, old_log_density = _observed(run, t, previous, old)
        log_ratio = log_density - old_log_density
        alive = population.log_weights > -math.inf
        accepted = alive & (uniforms(len(alive), generator).log() < log_ratio)
        return Moved(replace(population, particles=where(accepted, new, old)), accepted)


def _observed(run: Run, t: int, previous: Any, state: Any) -> tuple[Any, Float64[Tensor, " N"]]:
    """Return the states x_t, observed, and the log-density of x_t and y_t given x_{t-1}."""
    log_transition = on_host(run.model.log_transition(t, previous, state))
    state, log_likelihood = run.observe(t, previous, state)
    return state, log_transition + log_likelihood
