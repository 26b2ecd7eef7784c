"""llamppl: `smc_standard` on a program that writes a step and weighs it by its score.

On the back end for transformers, with the prompt cached. The score of the newest step is read from
the whole answer; particles that end a step at the same token are scored in one batch.
"""

import asyncio

from back_end import load_back_end, solver
from llamppl import CachedCausalLM, LMContext, Model, smc_standard
from networks import RewardModel, chat, ends_of_step, load_policy
from worker import serve


class Batches:
    """A reward model that scores simultaneous requests in one batch."""

    def __init__(self, reward, question):
        """Take a reward model."""
        self._reward, self._question = reward, question
        self._waiting = []

    async def log_score(self, steps):
        """Return the log-score of the last step."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._answer)
        self._waiting.append((steps, future))
        return await future

    def _answer(self):
        waiting, self._waiting = self._waiting, []
        scores = self._reward.log_scores(self._question, [steps for steps, _ in waiting])
        for row, (_, future) in zip(scores, waiting, strict=True):
            future.set_result(row[-1])


class Run:
    """The state that the particles of a run share."""

    def __init__(self, language_model, reward, task, question):
        """Begin a run."""
        self.tokenizer = language_model.tokenizer
        self.eos = self.tokenizer.eos_token_id
        self.ends = {self.eos}
        self.limit = task["step_tokens"] or task["max_tokens_per_step"]
        if not task["step_tokens"]:
            self.ends |= set(ends_of_step(self.tokenizer))
        self.max_steps = task["max_steps"]
        self.scores = Batches(reward, question)
        self.generated = 0


class Solution(Model):
    """A solution, written a step at a time."""

    def __init__(self, run, context):
        """Begin with the question."""
        super().__init__()
        self.run, self.context, self.steps = run, context, []

    def immutable_properties(self):
        """Return the names of the attributes that all particles share."""
        return {"run"}

    async def step(self):
        """Write a step and score it."""
        run, written = self.run, []
        while len(written) < run.limit:
            token = await self.sample(self.context.next_token())
            run.generated += 1
            written.append(token.token_id)
            if token.token_id in run.ends:
                break
        ended = written[-1] == run.eos
        text = run.tokenizer.decode(written, skip_special_tokens=True)
        if text.strip():
            self.steps.append(text)
            self.score(await run.scores.log_score(self.steps))
        if ended or len(self.steps) == run.max_steps:
            self.finish()


def load(settings):
    """Load the models."""
    model, tokenizer = load_policy(settings)
    reward = RewardModel(settings["reward"])
    back_end = load_back_end(model, tokenizer)
    language_model = CachedCausalLM(back_end)

    async def posterior(task, question):
        run = Run(language_model, reward, task, question)
        prompt = chat(tokenizer, question)
        language_model.clear_cache()
        language_model.cache_kv(tokenizer.encode(prompt))
        context = await LMContext.create(language_model, prompt)
        await smc_standard(Solution(run, context), task["particles"], 0.5)
        return run.generated

    return model, reward.trunk, solver(back_end, posterior)


if __name__ == "__main__":
    serve(load)
