"""its_hub: its particle filter, on `generate` of transformers and a reward model that reads it all.

Steps are asked for in one batch, and end at a stop token, as a server would end them; what has been
written before is sent as text and read again, since the interface knows no cache. Answers are
scored as its own reward models do: whole, in one batch.
"""

import random

import numpy as np
import torch
from its_hub.api import AbstractLanguageModel, AbstractProcessRewardModel
from its_hub.core.algorithms.particle_gibbs import ParticleFiltering
from its_hub.core.lms.step_generation import StepGeneration
from networks import DELIMITER, RewardModel, chat, ends_of_step, load_policy
from worker import serve

STOP = "\\boxed"


class Writer(AbstractLanguageModel):
    """A model of transformers as its_hub asks for it."""

    def __init__(self, model, tokenizer):
        """Take a model."""
        self.model, self.tokenizer = model, tokenizer
        self.max_tokens, self.generated = 1, 0
        self._stops = {
            None: [tokenizer.eos_token_id],
            DELIMITER: [tokenizer.eos_token_id, *ends_of_step(tokenizer)],
        }
        tokenizer.padding_side = "left"

    async def agenerate(self, messages, stop=None, **options):
        """Write the next step of each conversation."""
        batch = self.tokenizer(
            [self._prompt(each) for each in messages],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        width = batch["input_ids"].shape[1]
        room = self.model.config.max_position_embeddings - width
        limit = options["max_completion_tokens"] or self.max_tokens
        stops = torch.tensor(self._stops[stop])
        written = self.model.generate(
            **batch,
            do_sample=True,
            temperature=options["temperature"],
            top_k=0,
            top_p=1.0,
            max_new_tokens=min(limit, room),
            eos_token_id=stops.tolist(),
            pad_token_id=self.tokenizer.pad_token_id,
        )[:, width:]
        ends = torch.isin(written, stops)
        before = ends.cumsum(1) - ends.long() == 0  # up to the first end
        self.generated += int(before.sum())
        texts = self.tokenizer.batch_decode(
            [row[keep].tolist() for row, keep in zip(written, before & ~ends, strict=True)],
            skip_special_tokens=True,
        )
        return [{"role": "assistant", "content": text} for text in texts]

    def _prompt(self, messages):
        question, *answer = (message.content for message in messages)
        return chat(self.tokenizer, question) + "".join(answer)


class Judge(AbstractProcessRewardModel):
    """A process reward model as its_hub asks for it: the product of the scores of the steps."""

    def __init__(self, reward, step_token):
        """Take a reward model."""
        self.reward, self.step_token = reward, step_token

    async def ascore(self, prompt_or_messages, steps):
        """Score the answers so far."""
        return self.score(prompt_or_messages, steps)

    def score(self, prompt_or_messages, steps):
        """Score the answers so far."""
        cut = [self._cut(text) for text in steps]
        return np.exp([sum(row) for row in self.reward.log_scores(prompt_or_messages, cut)])

    def _cut(self, text):
        return text.split(self.step_token) if self.step_token else [text]


def load(settings):
    """Load the models."""
    model, tokenizer = load_policy(settings)
    reward = RewardModel(settings["reward"])
    writer = Writer(model, tokenizer)

    def solve(task):
        random.seed(task["seed"])
        np.random.seed(task["seed"])
        torch.manual_seed(task["seed"])
        step_token = None if task["step_tokens"] else DELIMITER
        steps = StepGeneration(
            max_steps=task["max_steps"] - 1,  # one more is written
            step_token=step_token,
            tokens_per_step=task["step_tokens"],
            stop_token=STOP,
            temperature=1.0,
        )
        algorithm = ParticleFiltering(steps, Judge(reward, step_token))
        writer.max_tokens = task["max_tokens_per_step"]
        for question in task["questions"]:
            writer.generated = 0
            algorithm.infer(writer, question, task["particles"])
            yield writer.generated

    return model, reward.trunk, solve


if __name__ == "__main__":
    serve(load)
