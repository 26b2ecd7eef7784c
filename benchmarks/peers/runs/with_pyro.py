"""Pyro: SMCFilter. It keeps no evidence, so that only the last state can be compared."""

import json
import math
import sys
from importlib.metadata import version

import pyro
import torch
from pyro import distributions
from pyro.infer import SMCFilter

TASK = json.load(sys.stdin)
WALK = TASK["walk"]


class Walk:
    """The model: a walk on the line."""

    def init(self, state, y):
        """Draw the first state and see it."""
        law = distributions.Normal(WALK["initial_mean"], math.sqrt(WALK["initial_covariance"]))
        self.see(state, 0, law, y)

    def step(self, state, t, y):
        """Draw the next state and see it."""
        scale = math.sqrt(WALK["transition_covariance"])
        law = distributions.Normal(WALK["transition_matrix"] * state["x"], scale)
        self.see(state, t, law, y)

    def see(self, state, t, law, y):
        """Draw a state and observe it."""
        state["x"] = pyro.sample(f"x{t}", law)
        scale = math.sqrt(WALK["observation_covariance"])
        seen = distributions.Normal(WALK["observation_matrix"] * state["x"], scale)
        pyro.sample(f"y{t}", seen, obs=torch.tensor(y))


class Prior(Walk):
    """The guide: the same without observations."""

    def see(self, state, t, law, y):
        """Draw a state."""
        pyro.sample(f"x{t}", law)


def last_mean(threshold):
    """Return the filtered mean of the last state."""
    smc = SMCFilter(Walk(), Prior(), TASK["particles"], 0, ess_threshold=threshold)
    smc.init(TASK["observations"][0])
    for t, y in enumerate(TASK["observations"][1:], start=1):
        smc.step(t, y)
    weights = smc.state._log_weights.softmax(0)
    return float(weights @ smc.state["x"])


def main():
    """Print a line a setting."""
    pyro.set_rng_seed(0)
    for threshold in (0.5, 1.0):
        means = [[last_mean(threshold)] for _ in range(TASK["runs"])]
        name = f"SMCFilter, {TASK['particles']}, threshold {threshold:g}"
        line = {"algorithm": name, "version": version("pyro-ppl"), "paths": means}
        print(json.dumps(line), flush=True)


main()
