"""particles: the bootstrap filter, and systematic resampling alone."""

import json
import sys

import numpy as np
import particles
from particles import resampling, state_space_models
from particles_walk import Walk
from timing import serve

SETTING = json.loads(sys.stdin.readline())
WALK = Walk(**SETTING["model"])
OBSERVATIONS = [np.array([y]) for y in SETTING["observations"]]


def filtered(size, threshold, seed):
    """Run the filter; its value is the log-evidence."""

    def run():
        smc = particles.SMC(
            fk=state_space_models.Bootstrap(ssm=WALK, data=OBSERVATIONS),
            N=size,
            resampling="systematic",
            ESSrmin=threshold,
        )
        smc.run()
        return float(smc.logLt)

    np.random.seed(seed)
    return run


def resampled(size, seed):
    """Resample log-weights."""
    np.random.seed(seed)
    log_weights = np.random.randn(size)
    return lambda: int(resampling.systematic(resampling.Weights(log_weights).W)[-1])


serve({"check": filtered, "filter": filtered, "resample": resampled})
