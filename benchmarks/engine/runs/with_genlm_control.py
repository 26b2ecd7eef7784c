"""genlm-control: SMC whose units are steps, with the reward model as critic.

On the back end for transformers, with the prompt cached. The critic reads whole answers, in the
batches that the library makes of them.
"""

import numpy as np
from back_end import load_back_end, solver
from genlm.control import SMC, Potential, PromptedLLM
from genlm.control.constant import EOS
from genlm.control.sampler.token import DirectTokenSampler
from genlm.control.sampler.unit import (
    FixedLengthBoundary,
    MultiTokenUnitSampler,
    TokenSetBoundary,
)
from networks import DELIMITER, RewardModel, chat, load_policy
from worker import serve


class CountingSampler(DirectTokenSampler):
    """Draws tokens, and counts them."""

    generated = 0

    async def sample(self, context, draw=None):
        """Draw a token."""
        self.generated += 1
        return await super().sample(context, draw)


class Scores(Potential):
    """The critic: the product of the scores of the steps."""

    def __init__(self, vocabulary, reward, question):
        """Take a reward model."""
        super().__init__(vocabulary)
        self._reward, self._question = reward, question

    async def prefix(self, context):
        """Return the log-score of the steps so far."""
        return (await self.batch_prefix([context]))[0]

    async def complete(self, context):
        """Return the log-score of a whole solution."""
        return (await self.batch_complete([context]))[0]

    async def batch_prefix(self, contexts):
        """Return the log-scores of many."""
        solutions = [[text for text in map(text_of, units) if text.strip()] for units in contexts]
        return np.array([sum(row) for row in self._reward.log_scores(self._question, solutions)])

    async def batch_complete(self, contexts):
        """Return the log-scores of many."""
        return await self.batch_prefix(contexts)


def text_of(unit):
    """Return the text of a step."""
    tokens = unit if isinstance(unit, list) else [unit]
    return b"".join(bytes(token) for token in tokens if token is not EOS).decode(errors="replace")


def load(settings):
    """Load the models."""
    model, tokenizer = load_policy(settings)
    reward = RewardModel(settings["reward"])
    back_end = load_back_end(model, tokenizer)
    prompted = PromptedLLM(back_end)
    delimiters = [token for token in prompted.vocab if DELIMITER.encode() in bytes(token)]

    async def posterior(task, question):
        back_end.clear_cache()
        prompt = tokenizer.encode(chat(tokenizer, question))
        back_end.cache_kv(prompt)
        tokens = CountingSampler(prompted.spawn(prompt_ids=prompt))
        length = task["step_tokens"]
        boundary = FixedLengthBoundary(length) if length else TokenSetBoundary(delimiters)
        steps = MultiTokenUnitSampler(tokens, boundary, length or task["max_tokens_per_step"])
        sampler = SMC(steps, Scores(prompted.vocab, reward, question))
        await sampler(task["particles"], 0.5, task["max_steps"] + 1)
        await sampler.cleanup()
        return tokens.generated

    return model, reward.trunk, solver(back_end, posterior)


if __name__ == "__main__":
    serve(load)
