"""Pyro: SMCFilter, in float64: in float32 its resampling runs off the end of ten thousand."""

import json
import sys

import pyro
import torch
from pyro.infer import SMCFilter
from pyro_walk import Prior, Walk
from timing import serve

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
SETTING = json.loads(sys.stdin.readline())
OBSERVATIONS = [torch.tensor(y) for y in SETTING["observations"]]


class Weighed(Walk):
    """The model that keeps the evidence, which the filter does not."""

    log_evidence = 0.0

    def see(self, state, t, law, y):
        """Draw a state and observe it; the weights are still those of the step before."""
        super().see(state, t, law, y)
        before = state._log_weights.double()
        after = before + self.seen(state).log_prob(y).double()
        self.log_evidence += float(after.logsumexp(0) - before.logsumexp(0))


def filtered(model, size, threshold, seed):
    """Run the filter."""

    def run():
        smc = SMCFilter(model, Prior(SETTING["model"]), size, 0, ess_threshold=threshold)
        smc.init(OBSERVATIONS[0])
        for t, y in enumerate(OBSERVATIONS[1:], start=1):
            smc.step(t, y)
        return getattr(model, "log_evidence", None)

    pyro.set_rng_seed(seed)
    return run


serve(
    {
        "check": lambda **task: filtered(Weighed(SETTING["model"]), **task),
        "filter": lambda **task: filtered(Walk(SETTING["model"]), **task),
    }
)
