"""its_hub: particle filtering, its entropic form and particle Gibbs; the answer drawn by weight."""

import asyncio
import json
import random
import sys
from importlib.metadata import version

import numpy as np
from its_hub.api import AbstractLanguageModel, AbstractProcessRewardModel
from its_hub.core.algorithms.particle_gibbs import (
    EntropicParticleFiltering,
    ParticleFiltering,
    ParticleGibbs,
)
from its_hub.core.lms.step_generation import StepGeneration

TASK = json.load(sys.stdin)
LANGUAGE = TASK["language"]
STOP = "."


def key(text):
    """Return the tokens of an answer as the tables have them."""
    return text.replace(STOP, "").replace("\n", " ").strip()


class Words(AbstractLanguageModel):
    """The language model: a step is one token, and the last one has the stop sign."""

    async def agenerate(self, messages, stop=None, **options):
        """Write the next step of each."""
        return [self.next(batch) for batch in messages]

    def next(self, messages):
        """Write the next step of one."""
        written = key(messages[-1].content) if messages[-1].role == "assistant" else ""
        law = LANGUAGE["law"][written]
        token = random.choices(range(len(law)), law)[0]
        length = len(written.split()) + 1
        end = token == LANGUAGE["eos"] or length == LANGUAGE["length"]
        return {"role": "assistant", "content": f"{token}{STOP if end else ''}"}


class Scores(AbstractProcessRewardModel):
    """The process reward model."""

    async def ascore(self, prompt_or_messages, steps):
        """Score the answers so far."""
        return [LANGUAGE["score"][key(text)] for text in steps]

    def score(self, prompt_or_messages, steps):
        """Score the answers so far."""
        return asyncio.run(self.ascore(prompt_or_messages, steps))


def main():
    """Print a line a setting."""
    random.seed(0)
    np.random.seed(0)
    steps = StepGeneration(max_steps=50, step_token="\n", stop_token=STOP)
    parts = (steps, Scores())
    size = TASK["particles"]
    algorithms = {
        f"ParticleFiltering, {size}": (ParticleFiltering(*parts, "sample"), size),
        f"EntropicParticleFiltering, {size}": (EntropicParticleFiltering(*parts, "sample"), size),
        f"ParticleGibbs, 4 x {size // 4}": (ParticleGibbs(*parts, 4, "sample"), size),
    }
    for name, (algorithm, budget) in algorithms.items():
        answers = []
        for _ in range(TASK["runs"]):
            result = asyncio.run(algorithm.ainfer(Words(), "?", budget))
            answers.append(key(result["content"]))
        line = {"algorithm": name, "version": version("its_hub"), "answers": answers}
        print(json.dumps(line), flush=True)


main()
