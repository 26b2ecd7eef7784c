"""particles: the bootstrap filter with every resampler and threshold, and conditional SMC."""

import json
import math
import sys
from importlib.metadata import version

import numpy as np
import particles
from particles import distributions, mcmc, state_space_models

TASK = json.load(sys.stdin)
WALK = TASK["walk"]
DATA = [np.array([y]) for y in TASK["observations"]]


class Walk(state_space_models.StateSpaceModel):
    """A walk on the line."""

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


def evidence(scheme, threshold):
    """Estimate the evidence once."""
    filtered = particles.SMC(
        fk=state_space_models.Bootstrap(ssm=Walk(), data=DATA),
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
            fk=state_space_models.Bootstrap(ssm=Walk(), data=DATA),
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
