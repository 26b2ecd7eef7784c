#!/usr/bin/env bash
# A step that only says where the answer will be put ends the solution.
#
# its_hub 1.2.0, `StepGeneration` with the stop token `\boxed`. The token is looked for anywhere in
# the new step. One of the two system prompts of the package tells models to put the answer within
# `\boxed{}`, and where a first step repeats that, it is the last one: the solution counts as
# finished and has no answer.
#
# Expected: a solution ends with a box that has something in it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    its_hub==1.2.0 numpy==2.4.6 typing_extensions==4.16.0
"$folder/bin/python" - <<'END'
import logging

from its_hub.api import AbstractLanguageModel
from its_hub.core.lms.step_generation import StepGeneration

logging.disable()
STEPS = [
    r"I will reason step by step and put my final answer within \boxed{}.",
    "There are 7 times 6 of them.",
    r"The answer is \boxed{42}.",
]


class Model(AbstractLanguageModel):
    """Writes the step that comes next."""

    async def agenerate(self, messages, stop=None, **options):
        written = messages[-1].content.count(stop) if len(messages) > 1 else 0
        return {"role": "assistant", "content": STEPS[written]}


steps = StepGeneration(max_steps=8, step_token="\n\n", stop_token=r"\boxed")
written, stopped = [], False
while not stopped:
    step, stopped = steps.forward(Model(), "How many?", written)
    written.append(step)
print("finished after:", written)
assert written == STEPS[:1], "this has changed"
END
