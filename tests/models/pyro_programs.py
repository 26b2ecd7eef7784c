"""Programs in the form that Pyro's `SMCFilter` takes, with their exact evidence."""

import itertools
import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from llmsmc.models import LinearGaussian

TURN = torch.tensor([[1.0, 0.5], [-0.5, 0.9]])
NOISE = torch.tensor([0.2, 0.3])
INITIAL = torch.tensor([1.0, 0.0])


class Oscillator:
    """Position and speed on a spring with friction, of which the position is seen."""

    def init(self, state: Any, initial: Tensor) -> None:
        self.t = 0
        state["z"] = pyro.sample("z_init", dist.Delta(initial, event_dim=1))

    def step(self, state: Any, y: Any = None) -> Any:
        self.t += 1
        law = dist.Normal(state["z"] @ TURN.T, NOISE).to_event(1)
        state["z"] = pyro.sample(f"z_{self.t}", law)
        return pyro.sample(f"y_{self.t}", dist.Normal(state["z"][..., 0], 0.5), obs=y)


class OscillatorGuide:
    """Proposes the position between where it would be and where it is seen."""

    def init(self, state: Any, initial: Tensor) -> None:
        self.t = 0

    def step(self, state: Any, y: Any = None) -> None:
        self.t += 1
        mean = state["z"] @ TURN.T
        seen = torch.stack([0.8 * mean[:, 0] + 0.2 * y, mean[:, 1]], dim=1)
        pyro.sample(f"z_{self.t}", dist.Normal(seen, torch.tensor([0.25, 0.3])).to_event(1))


OSCILLATOR = LinearGaussian(
    initial_mean=TURN @ INITIAL,
    initial_covariance=NOISE.square().diag(),
    transition_matrix=TURN.double(),
    transition_covariance=NOISE.square().diag().double(),
    observation_matrix=[[1.0, 0.0]],
    observation_covariance=0.25,
)


class DriftingWalk:
    """A walk whose drift is drawn once and for all."""

    def init(self, state: Any) -> None:
        state["drift"] = pyro.sample("drift", dist.Normal(0.3, 0.4))
        state["x"] = torch.zeros_like(state["drift"])

    def step(self, state: Any, y: Any) -> None:
        state["x"] += state["drift"] + pyro.sample("noise", dist.Normal(0.0, 0.5))
        pyro.sample("y", dist.Normal(state["x"], 0.7), obs=y)


DRIFTING_WALK = LinearGaussian(
    initial_mean=[0.3, 0.3],
    initial_covariance=[[0.16 + 0.25, 0.16], [0.16, 0.16 + 1e-9]],
    transition_matrix=[[1.0, 1.0], [0.0, 1.0]],
    transition_covariance=[[0.25, 0.0], [0.0, 1e-9]],
    observation_matrix=[[1.0, 0.0]],
    observation_covariance=0.49,
)

STAY = torch.tensor([[0.8, 0.2], [0.3, 0.7]])
PULL = torch.tensor([-0.5, 0.8])


class Switching:
    """A level that is pulled down or up, as a hidden regime has it."""

    def init(self, state: Any, y: Any) -> None:
        state["regime"] = pyro.sample("regime", dist.Categorical(torch.tensor([0.5, 0.5])))
        state["x"] = pyro.sample("x", dist.Normal(PULL[state["regime"]], 1.0))
        pyro.sample("y", dist.Normal(state["x"], 0.5), obs=y)

    def step(self, state: Any, y: Any) -> None:
        state["regime"] = pyro.sample("regime", dist.Categorical(STAY[state["regime"]]))
        mean = 0.7 * state["x"] + PULL[state["regime"]]
        state["x"] = pyro.sample("x", dist.Normal(mean, 0.4))
        pyro.sample("y", dist.Normal(state["x"], 0.5), obs=y)


def switching_evidence(observations: list[float]) -> float:
    """By the Kalman filter for each of the histories of the regime."""
    total = 0.0
    for regimes in itertools.product((0, 1), repeat=len(observations)):
        density, mean, variance = 0.5, 0.0, 0.0
        for t, (regime, y) in enumerate(zip(regimes, observations, strict=True)):
            if t > 0:
                density *= float(STAY[regimes[t - 1], regime])
            mean = 0.7 * mean + float(PULL[regime])
            variance = 0.49 * variance + (1.0 if t == 0 else 0.16)
            seen = variance + 0.25
            density *= math.exp(-0.5 * (y - mean) ** 2 / seen) / math.sqrt(2 * math.pi * seen)
            mean, variance = mean + variance / seen * (y - mean), variance * 0.25 / seen
        total += density
    return total


class Echo:
    """Each observation continues the one before: what is stored depends on what is seen."""

    def init(self, state: Any) -> None:
        state["last"] = pyro.sample("start", dist.Delta(torch.tensor(1.0)))

    def step(self, state: Any, y: Any) -> None:
        x = pyro.sample("x", dist.Normal(0.7 * state["last"], 1.0))
        state["last"] = pyro.sample("y", dist.Normal(x, 0.5), obs=y).expand(len(x))


def echo_evidence(observations: list[float]) -> float:
    before = torch.tensor([1.0, *observations[:-1]])
    law = dist.Normal(0.7 * before, math.sqrt(1.25))
    return math.exp(float(law.log_prob(torch.tensor(observations)).sum()))
