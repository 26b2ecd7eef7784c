"""A walk on the line for Pyro's SMCFilter; its numbers are arguments."""

import math

import pyro
import torch
from pyro import distributions


class Walk:
    """The model."""

    def __init__(self, numbers):
        """Take the numbers."""
        self.numbers = numbers

    def init(self, state, y):
        """Draw the first state and see it."""
        scale = math.sqrt(self.numbers["initial_covariance"])
        self.see(state, 0, distributions.Normal(self.numbers["initial_mean"], scale), y)

    def step(self, state, t, y):
        """Draw the next state and see it."""
        scale = math.sqrt(self.numbers["transition_covariance"])
        mean = self.numbers["transition_matrix"] * state["x"]
        self.see(state, t, distributions.Normal(mean, scale), y)

    def see(self, state, t, law, y):
        """Draw a state and observe it."""
        state["x"] = pyro.sample(f"x{t}", law)
        pyro.sample(f"y{t}", self.seen(state), obs=torch.as_tensor(y))

    def seen(self, state):
        """Return the law of the observation."""
        scale = math.sqrt(self.numbers["observation_covariance"])
        return distributions.Normal(self.numbers["observation_matrix"] * state["x"], scale)


class Prior(Walk):
    """The guide: the walk without observations."""

    def see(self, state, t, law, y):
        """Draw a state."""
        pyro.sample(f"x{t}", law)
