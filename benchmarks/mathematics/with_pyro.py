"""Pyro: SMCFilter, in float64: in float32 its resampling runs off the end of ten thousand."""

import json
import math
import sys
import time

import pyro
import torch
from pyro import distributions
from pyro.infer import SMCFilter

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
SETTING = json.loads(sys.stdin.readline())
WALK = SETTING["model"]
OBSERVATIONS = [torch.tensor(y) for y in SETTING["observations"]]


class Walk:
    """The model."""

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
        pyro.sample(f"y{t}", self.seen(state), obs=y)

    def seen(self, state):
        """Return the law of what is seen."""
        scale = math.sqrt(WALK["observation_covariance"])
        return distributions.Normal(WALK["observation_matrix"] * state["x"], scale)


class Prior(Walk):
    """The guide: the same without observations."""

    def see(self, state, t, law, y):
        """Draw a state."""
        pyro.sample(f"x{t}", law)


class Weighed(Walk):
    """The model that keeps the evidence, which the filter does not."""

    def __init__(self):
        """Begin at one."""
        self.log_evidence = 0.0

    def see(self, state, t, law, y):
        """Draw a state and observe it; the weights are still those of the step before."""
        super().see(state, t, law, y)
        before = state._log_weights.double()
        after = before + self.seen(state).log_prob(y).double()
        self.log_evidence += float(after.logsumexp(0) - before.logsumexp(0))


def filtered(model, size, threshold, seed):
    """Run the filter."""
    pyro.set_rng_seed(seed)
    smc = SMCFilter(model, Prior(), size, 0, ess_threshold=threshold)
    smc.init(OBSERVATIONS[0])
    for t, y in enumerate(OBSERVATIONS[1:], start=1):
        smc.step(t, y)
    return getattr(model, "log_evidence", None)


def timed(work):
    """Return the processor time and the wall-clock time of the work, and its value."""
    processor, wall = time.process_time(), time.perf_counter()
    value = work()
    return {
        "processor": time.process_time() - processor,
        "wall": time.perf_counter() - wall,
        "value": value,
    }


for line in sys.stdin:
    task = json.loads(line)
    model = Weighed() if task["task"] == "check" else Walk()
    result = timed(
        lambda task=task, model=model: filtered(
            model, task["size"], task["threshold"], task["seed"]
        )
    )
    print(json.dumps(result), flush=True)
