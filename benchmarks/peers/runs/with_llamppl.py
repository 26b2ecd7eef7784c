"""llamppl: standard SMC with every resampler and threshold, and SMC steering."""

import asyncio
import json
import math
import sys
from importlib.metadata import version

import numpy as np
from llamppl.distributions.distribution import Distribution
from llamppl.inference import smc_standard, smc_steer
from llamppl.modeling import Model

TASK = json.load(sys.stdin)
LANGUAGE = TASK["language"]


class NextToken(Distribution):
    """The law of the next token, from the table."""

    def __init__(self, prefix):
        """Look the law up."""
        self.law = LANGUAGE["law"][" ".join(map(str, prefix))]

    async def sample(self):
        """Draw a token."""
        token = int(np.random.choice(len(self.law), p=self.law))
        return token, math.log(self.law[token])

    async def log_prob(self, x):
        """Look a token up."""
        return math.log(self.law[x])


class Sentence(Model):
    """A sentence weighted by the scores of its prefixes."""

    def __init__(self):
        """Start empty."""
        super().__init__()
        self.tokens = []

    async def step(self):
        """Write one token."""
        self.tokens = [*self.tokens, await self.sample(NextToken(self.tokens))]
        score = LANGUAGE["score"][" ".join(map(str, self.tokens))]
        self.score(math.log(score) if score else -math.inf)
        if len(self.tokens) == LANGUAGE["length"] or self.tokens[-1] == LANGUAGE["eos"]:
            self.finish()


def evidences(run):
    """Estimate the evidence in all runs by the mean weight of the sentences."""
    return [
        float(np.exp([particle.weight for particle in asyncio.run(run())]).mean())
        for _ in range(TASK["runs"])
    ]


def main():
    """Print a line a setting."""
    np.random.seed(0)
    rows = [
        (
            f"smc_standard, {scheme}, threshold {threshold:g}",
            lambda scheme=scheme, threshold=threshold: smc_standard(
                Sentence(), 6, threshold, resampling_method=scheme
            ),
        )
        for scheme in ("multinomial", "residual", "stratified", "systematic")
        for threshold in (0.5, 1.0)
    ] + [
        (
            f"smc_steer, {n} x {beam}",
            lambda n=n, beam=beam: smc_steer(Sentence(), n, beam),
        )
        for n, beam in ((5, 3), (3, 4), (10, 2))
    ]
    for name, run in rows:
        line = {"algorithm": name, "version": version("llamppl"), "evidence": evidences(run)}
        print(json.dumps(line), flush=True)


main()
