"""particles: the bootstrap filter, and systematic resampling alone."""

import json
import math
import sys
import time

import numpy as np
import particles
from particles import distributions, resampling, state_space_models

SETTING = json.loads(sys.stdin.readline())
WALK = SETTING["model"]
OBSERVATIONS = [np.array([y]) for y in SETTING["observations"]]


class Walk(state_space_models.StateSpaceModel):
    """The model; the same three laws as its own `kalman.LinearGauss`, with any numbers."""

    def PX0(self):
        """Return the law of the first state."""
        return distributions.Normal(
            loc=WALK["initial_mean"], scale=math.sqrt(WALK["initial_covariance"])
        )

    def PX(self, t, xp):
        """Return the law of the next state."""
        return distributions.Normal(
            loc=WALK["transition_matrix"] * xp, scale=math.sqrt(WALK["transition_covariance"])
        )

    def PY(self, t, xp, x):
        """Return the law of what is seen."""
        return distributions.Normal(
            loc=WALK["observation_matrix"] * x, scale=math.sqrt(WALK["observation_covariance"])
        )


def filtered(size, threshold, seed):
    """Run the filter; return its log-evidence."""
    np.random.seed(seed)
    smc = particles.SMC(
        fk=state_space_models.Bootstrap(ssm=Walk(), data=OBSERVATIONS),
        N=size,
        resampling="systematic",
        ESSrmin=threshold,
    )
    smc.run()
    return float(smc.logLt)


def resampled(size, seed):
    """Return the time of one resampling of log-weights."""
    np.random.seed(seed)
    log_weights = np.random.randn(size)
    return timed(lambda: int(resampling.systematic(resampling.Weights(log_weights).W)[-1]))


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
    if task["task"] == "resample":
        result = resampled(task["size"], task["seed"])
    else:
        result = timed(lambda task=task: filtered(task["size"], task["threshold"], task["seed"]))
    print(json.dumps(result), flush=True)
