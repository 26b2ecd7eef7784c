"""Pyro: SMCFilter. It keeps no evidence, so that only the last state can be compared."""

import json
import sys
from importlib.metadata import version

import pyro
from pyro.infer import SMCFilter
from pyro_walk import Prior, Walk

TASK = json.load(sys.stdin)
WALK = TASK["walk"]


def last_mean(threshold):
    """Return the filtered mean of the last state."""
    smc = SMCFilter(Walk(WALK), Prior(WALK), TASK["particles"], 0, ess_threshold=threshold)
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
