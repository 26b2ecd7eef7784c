"""Why solutions have no answer.

| cause | what it says |
| --- | --- |
| `max_tokens`, `max_tokens_per_step`, `max_steps` | a limit of that name cut the solution off |
| `context`, `reward_context` | the policy, or the reward model, had no room for more |
| `unread_box` | the model ended the text, and no box in it could be read |
| `no_answer` | the model ended the text without an answer in any of the forms looked for |
| `box_not_asked_for` | the same, while boxes were looked for, and the prompt asks for none |
| `thinking` | the model ended the text before it had ended its thinking |
| `failed` | a server could not go on with the solution |
| `unfinished` | the run ended before the solution did |
"""

from collections.abc import Mapping
from typing import Final

from llmsmc.grading.extraction import has_box
from llmsmc.grading.forms import BOXED, answer_forms
from llmsmc.models.reasoning.model import Reasoning
from llmsmc.models.reasoning.particles import (
    EOS,
    FAILED,
    LENGTH,
    MAX_STEPS,
    ReasoningParticles,
    answer_text,
)

BOX_NOT_ASKED_FOR: Final = "box_not_asked_for"
CAUSES: Final[Mapping[str, str]] = {
    "max_tokens": "cut off by the limit on tokens (--max-tokens)",
    "max_tokens_per_step": "cut off by the limit on a step (--max-tokens-per-step)",
    "max_steps": "cut off by the limit on steps (--max-steps)",
    "context": "cut off by the context of the policy",
    "reward_context": "cut off by the context of the reward model",
    "unread_box": "ended with a box that could not be read",
    "no_answer": "ended without an answer",
    BOX_NOT_ASKED_FOR: "ended without a box, which the prompt does not ask for",
    "thinking": "ended while still thinking",
    "failed": "failed at a server",
    "unfinished": "unfinished when the run ended",
}
"""Cause -> what happened to a solution, in words."""

_MANY: Final = 0.1  # of the solutions: a model that knows what to do forgets it now and then
_ASK_FOR_A_BOX: Final = (
    r"Answers are missing because nothing in the prompt asks for them in \boxed{}: --system boxed "
    "(or system='boxed') does, or a system prompt of your own; --answer-forms boxed,phrase looks "
    "for 'The answer is ...' as well."
)


def advice(causes: Mapping[str, int], num_solutions: int) -> str | None:
    """Return what mends the missing answers, given how many solutions have each cause."""
    if causes.get(BOX_NOT_ASKED_FOR, 0) < max(1, _MANY * num_solutions):
        return None
    return _ASK_FOR_A_BOX


def why_no_answer(model: Reasoning, particles: ReasoningParticles) -> list[str | None]:
    """Return for each solution of a run of the model why it has no answer; None where it has one.

    The causes are the keys of `CAUSES`.
    """
    answers = particles.answers()
    if None not in answers:
        return [None] * len(answers)
    ended = _cause_of_an_end(model)
    codes, counts = particles.finish_codes.tolist(), particles.num_tokens.tolist()
    starts = particles.tokens_after((particles.num_transitions - 1).clamp(min=0)).tolist()
    causes = list[str | None]()
    for n, answer in enumerate(answers):
        if answer is not None:
            causes.append(None)
        elif codes[n] == LENGTH:
            causes.append(_limit(model, counts[n], counts[n] - starts[n]))
        elif codes[n] == EOS:
            text = "".join(particles.steps[n])
            closing = particles.thinking_end
            if closing is not None and closing not in text:
                causes.append("thinking")
            else:
                causes.append("unread_box" if has_box(answer_text(text, closing)) else ended)
        else:
            causes.append({MAX_STEPS: "max_steps", FAILED: "failed"}.get(codes[n], "unfinished"))
    return causes


def _cause_of_an_end(model: Reasoning) -> str:
    """Return why a solution without any box has no answer, although the model has ended it."""
    prompt = model.policy.tokens.decode(model.prompt_ids)
    asked = has_box(prompt) or "boxed" in prompt.lower()
    looked_for = BOXED in answer_forms(model.answer_forms)
    return BOX_NOT_ASKED_FOR if looked_for and not asked else "no_answer"


def _limit(model: Reasoning, num_tokens: int, num_in_step: int) -> str:
    """Return which limit on tokens cut off a solution of so many, so many in its last step."""
    if model.max_tokens is not None and num_tokens >= model.max_tokens:
        return "max_tokens"
    if len(model.prompt_ids) + num_tokens >= model.policy.context_length:
        return "context"
    return "max_tokens_per_step" if num_in_step >= model.max_tokens_per_step else "reward_context"
