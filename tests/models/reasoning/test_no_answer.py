"""Why solutions have no answer: each cause, told by what cut the solution off or how it ended."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.reasoning.no_answer import (
    BOX_NOT_ASKED_FOR,
    CAUSES,
    advice,
    why_no_answer,
)
from llmsmc.models.reasoning.particles import (
    EOS,
    FAILED,
    LENGTH,
    MAX_STEPS,
    UNFINISHED,
)
from tests.models.conftest import policy, policy_folder, tokenizer  # noqa: F401 - fixtures
from tests.solutions import population

BOX = r"Put the answer in \boxed{}."


def model(policy: LanguageModel, **settings: Any) -> Reasoning:  # noqa: F811
    return Reasoning(policy, None, "What is 3 + 4?", **{"system": BOX} | settings)


def written(text: str, code: int, *ends: int) -> Any:
    """Return a solution with steps that end behind so many tokens."""
    count = ends[-1] if ends else 0
    return replace(
        population([[text]]),
        finish_codes=torch.tensor([code]),
        num_tokens=torch.tensor([count]),
        transition_ends=torch.tensor([list(ends)]).long().reshape(1, -1),
    )


CASES: list[tuple[str | None, dict[str, Any], Any]] = [
    (None, {}, written(r"\boxed{7}", EOS, 3)),
    (None, {"max_tokens": 5}, written(r"\boxed{7} and", LENGTH, 5)),
    ("max_tokens", {"max_tokens": 5}, written("So", LENGTH, 3, 5)),
    ("max_tokens_per_step", {"max_tokens_per_step": 4}, written("So", LENGTH, 2, 6)),
    ("max_tokens_per_step", {"max_tokens_per_step": 4, "max_tokens": 9}, written("So", LENGTH, 4)),
    ("reward_context", {"max_tokens_per_step": 4}, written("So", LENGTH, 4, 6)),
    ("max_steps", {}, written("So", MAX_STEPS, 3)),
    ("failed", {}, written("So", FAILED, 3)),
    ("failed", {}, written("", FAILED)),
    ("unfinished", {}, written("So", UNFINISHED, 3)),
    ("no_answer", {}, written("So 7.", EOS, 3)),
    ("no_answer", {"system": None, "question": r"3 + 4? In \boxed{}."}, written("So 7.", EOS, 3)),
    (BOX_NOT_ASKED_FOR, {"system": None}, written("So 7.", EOS, 3)),
    (BOX_NOT_ASKED_FOR, {"system": "Count the boxes."}, written("So 7 boxes.", EOS, 3)),
    ("no_answer", {}, written("So 7 boxes.", EOS, 3)),
    (BOX_NOT_ASKED_FOR, {"system": "Be brief."}, written("So 7.", EOS, 3)),
    ("no_answer", {"system": None, "answer_forms": "phrase"}, written("So 7.", EOS, 3)),
    ("unread_box", {}, written(r"So \boxed{7", EOS, 3)),
    ("unread_box", {"system": None}, written(r"So \boxed{\text{answer}}", EOS, 3)),
    ("thinking", {}, replace(written(r"So \boxed{7}", EOS, 3), thinking_end="</t>")),
    ("no_answer", {}, replace(written(r"\boxed{7}</t>7", EOS, 3), thinking_end="</t>")),
]


@pytest.mark.parametrize(("cause", "settings", "particles"), CASES)
def test_causes(
    cause: str | None,
    settings: dict[str, Any],
    particles: Any,
    policy: LanguageModel,  # noqa: F811
) -> None:
    asked = replace(model(policy), **settings) if "question" in settings else None
    found = why_no_answer(asked or model(policy, **settings), particles)
    assert found == [cause] and (cause is None or cause in CAUSES)


def test_what_mends_it_is_said_where_it_is_common() -> None:
    said = advice({BOX_NOT_ASKED_FOR: 2, "max_steps": 5}, 20)
    assert said is not None and "--system boxed" in said
    for causes, count in (({BOX_NOT_ASKED_FOR: 1}, 20), ({"no_answer": 20}, 20), ({}, 0)):
        assert advice(causes, count) is None


def test_the_context_of_the_policy(policy: LanguageModel) -> None:  # noqa: F811
    asked = model(policy, max_tokens_per_step=10**6)
    room = policy.context_length - len(asked.prompt_ids)
    assert why_no_answer(asked, written("So", LENGTH, 3, room)) == ["context"]
    assert why_no_answer(asked, written("So", LENGTH, 3, room - 1)) == ["reward_context"]
