#!/usr/bin/env bash
# Residual resampling never chooses a particle whose weight is below the mean.
#
# filterpy 2.0.0, `filterpy.monte_carlo.residual_resample`. After the whole copies of N w have
# been given out, the rest should be drawn with probability N w - floor(N w); it is drawn with
# w - floor(N w) instead, which is negative for all particles that have a copy already and is
# divided by its sum. For the weights .4, .35, .15 and .1 the mean numbers of copies are about
# 2.2, 1.8, 0 and 0. The other three functions of the module are right. It was reported for version
# 1.4.5 (rlabbe/filterpy, issue 290), and is still so.
#
# Expected: N w = 1.6, 1.4, .6 and .4, as resampling has to be unbiased.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    filterpy==2.0.0 numpy==2.4.6 scipy==1.17.1
"$folder/bin/python" - <<'END'
import numpy as np
from filterpy import monte_carlo

RUNS = 10_000
NAMES = ("multinomial", "residual", "stratified", "systematic")
weights = np.array([0.4, 0.35, 0.15, 0.1])
np.random.seed(1)
copies = {}
for name in NAMES:
    resample = getattr(monte_carlo, f"{name}_resample")
    counts = sum(np.bincount(resample(weights), minlength=4) for _ in range(RUNS))
    copies[name] = counts / RUNS
    print(f"{name}: mean copies {copies[name]}, N w {4 * weights}")
wrong = {name for name in NAMES if abs(copies[name] - 4 * weights).max() > 0.05}
assert wrong == {"residual"}, "this has changed"
assert copies["residual"][2:].sum() == 0, "this has changed"
END
