"""particles: the bootstrap filter with every resampler and threshold, and conditional SMC."""

import json
import math
import sys
from importlib.metadata import version

import numpy as np
import particles
from particles import mcmc, state_space_models
from particles_walk import Walk

TASK = json.load(sys.stdin)
WALK = Walk(**TASK["walk"])
DATA = [np.array([y]) for y in TASK["observations"]]


def evidence(scheme, threshold):
    """Estimate the evidence once."""
    filtered = particles.SMC(
        fk=state_space_models.Bootstrap(ssm=WALK, data=DATA),
        N=6,
        resampling=scheme,
        ESSrmin=threshold,
    )
    filtered.run()
    return math.exp(filtered.logLt)


def swept(path, size):
    """Return the path after sweeps of conditional SMC, resampled at every step."""
    for _ in range(TASK["sweeps"]):
        sweep = mcmc.CSMC(
            fk=state_space_models.Bootstrap(ssm=WALK, data=DATA),
            N=size,
            ESSrmin=1.0,
            xstar=np.array(path),
        )
        sweep.run()
        path = [float(x) for x in sweep.hist.extract_one_trajectory()]
    return path


def main():
    """Print a line a setting."""
    np.random.seed(0)
    for scheme in ("multinomial", "residual", "stratified", "systematic", "ssp", "killing"):
        for threshold in (0.5, 1.0):
            values = [evidence(scheme, threshold) for _ in range(TASK["runs"])]
            name = f"bootstrap, {scheme}, threshold {threshold:g}"
            line = {"algorithm": name, "version": version("particles"), "evidence": values}
            print(json.dumps(line), flush=True)
    for size in (2, 3, 5):
        paths = [swept(path, size) for path in TASK["paths"]]
        name = f"CSMC, N = {size}"
        print(
            json.dumps({"algorithm": name, "version": version("particles"), "paths": paths}),
            flush=True,
        )


main()
