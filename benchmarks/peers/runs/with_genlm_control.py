"""genlm-control: SMC with a critic, with every resampler and threshold."""

import asyncio
import json
import math
import sys
from importlib.metadata import version

import numpy as np
from genlm.control import SMC, Potential
from genlm.control.sampler.token import DirectTokenSampler

TASK = json.load(sys.stdin)
LANGUAGE = TASK["language"]
EOS = LANGUAGE["eos"]
WORDS = [token for token in range(LANGUAGE["num_tokens"]) if token != EOS]


def log(x):
    """Return the logarithm, also of zero."""
    return math.log(x) if x > 0 else -math.inf


def score(tokens):
    """Sum the log-scores of all prefixes."""
    keys = [" ".join(map(str, tokens[:t])) for t in range(1, len(tokens) + 1)]
    return sum(log(LANGUAGE["score"].get(key, 0.0)) for key in keys)


def law(tokens):
    """Return the law of the next word; after the longest sentence, the end."""
    certain = [float(token == EOS) for token in range(LANGUAGE["num_tokens"])]
    return LANGUAGE["law"].get(" ".join(map(str, tokens)), certain)


class Words(Potential):
    """The language model."""

    def __init__(self):
        """Take the words as vocabulary."""
        super().__init__([bytes([token]) for token in WORDS])

    async def prefix(self, context):
        """Return the log-probability of a prefix."""
        tokens = [word[0] for word in context]
        return sum(log(law(tokens[:t])[tokens[t]]) for t in range(len(tokens)))

    async def complete(self, context):
        """Return the log-probability of a sentence."""
        return await self.prefix(context) + log(law([word[0] for word in context])[EOS])

    async def logw_next(self, context):
        """Return the log-law of the next word or the end."""
        following = law([word[0] for word in context])
        order = [*WORDS, EOS]
        return self.make_lazy_weights(np.array([log(following[token]) for token in order]))


class Scores(Potential):
    """The critic."""

    def __init__(self):
        """Take the words as vocabulary."""
        super().__init__([bytes([token]) for token in WORDS])

    async def prefix(self, context):
        """Return the log-score of a prefix."""
        return score([word[0] for word in context])

    async def complete(self, context):
        """Return the log-score of a sentence."""
        return score([*(word[0] for word in context), EOS])


async def evidences(sampler, threshold, scheme):
    """Estimate the evidence in all runs."""
    found = []
    for _ in range(TASK["runs"]):
        sequences = await sampler(
            n_particles=6,
            ess_threshold=threshold,
            max_tokens=LANGUAGE["length"] + 1,
            resampling_method=scheme,
        )
        found.append(math.exp(sequences.log_ml))
    return found


def main():
    """Print a line a setting."""
    np.random.seed(0)
    sampler = SMC(DirectTokenSampler(Words(), autobatch=False), Scores(), autobatch=False)
    for scheme in ("multinomial", "residual", "stratified", "systematic"):
        for threshold in (0.5, 1.0):
            values = asyncio.run(evidences(sampler, threshold, scheme))
            name = f"SMC, {scheme}, threshold {threshold:g}"
            line = {"algorithm": name, "version": version("genlm-control"), "evidence": values}
            print(json.dumps(line), flush=True)


main()
