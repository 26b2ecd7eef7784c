#!/usr/bin/env bash
# The negative binomial law is drawn as one law and weighed as another, or as NaN.
#
# particles 0.4, `particles.distributions.NegativeBinomial(n, p)`. `rvs` draws with n and p as
# documented; `logpdf` and `ppf` hand them to scipy the other way round. For n = 3 every density
# is NaN, for n = 1 all counts but 0 are impossible. A particle filter for counts, which are
# often observed by this law, gets weights that are all zero: its evidence is NaN, and nothing is
# raised.
#
# Expected: the densities of scipy.stats.nbinom(n, p), from which `rvs` draws.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    particles==0.4 numpy==1.26.4 scipy==1.17.1
"$folder/bin/python" - <<'END'
import warnings

import numpy as np
import particles
from particles import distributions, state_space_models
from scipy import stats

warnings.simplefilter("ignore")
np.random.seed(1)
counts = np.arange(4)
for n, p in ((3, 0.4), (1, 0.5)):
    law = distributions.NegativeBinomial(n=n, p=p)
    right = stats.nbinom(n, p)
    print(f"n={n}, p={p}: log densities {law.logpdf(counts)}, right {right.logpmf(counts)}")
    drawn = law.rvs(size=100_000).mean()
    print(f"  mean of draws {drawn}, right {right.mean()}")
    assert abs(drawn - right.mean()) < 0.05, "this has changed"
    assert not np.isfinite(law.logpdf(counts[1:])).any(), "this has changed"


class Counts(state_space_models.StateSpaceModel):
    def PX0(self):
        return distributions.Normal(0, 1)

    def PX(self, t, xp):
        return distributions.Normal(0.9 * xp, 0.5)

    def PY(self, t, xp, x):
        return distributions.NegativeBinomial(n=3, p=1 / (1 + np.exp(-x)))


steps = state_space_models.Bootstrap(ssm=Counts(), data=[2, 0, 5, 3])
run = particles.SMC(fk=steps, N=1000)
run.run()
print("log evidence of a bootstrap filter:", run.logLt)
assert np.isnan(run.logLt), "this has changed"
END
