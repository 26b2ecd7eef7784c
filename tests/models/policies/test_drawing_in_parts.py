"""Rows of a large vocabulary are worked on a few at a time, which changes no bit."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from llmsmc import NumericalError
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding import step_batch
from llmsmc.models.policies.decoding.drawing import invert
from llmsmc.models.policies.decoding.requests import StepRequest, UniformTable
from llmsmc.models.policies.decoding.step_batch import StepBatch
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.text.constraint import WithoutText
from llmsmc.models.text.stopping import Delimiter
from llmsmc.models.text.thinking import ForcedTokens

NUM_PARTICLES = 12
COLUMNS = ("token_ids", "num_tokens", "log_probs", "transition_log_probs", "proposal_log_probs")


class Moments:
    """Two numbers of the law, and one of the states."""

    size = 3

    def features(self, states: Sequence[Tensor], log_probs: Tensor) -> Tensor:
        surprise = -(log_probs.exp() * log_probs).sum(-1)
        return torch.stack([surprise, log_probs.amax(-1), states[-1].mean(-1)], dim=1)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tempered": {"temperature": 0.7},
    "greedy": {"temperature": 0},
    "masked": {"constraint": WithoutText("7"), "temperature": 0.7},
    "read": {"readout": Moments()},
    "forced": {"forced": ForcedTokens((5, 6), torch.full((NUM_PARTICLES,), 3))},
}


def drawn(policy: LanguageModel, settings: Sequence[dict[str, Any]]) -> list[Any]:
    """Return what requests draw side by side, each with the shapes of its rows."""
    batch, answers = StepBatch(policy), dict[int, Any]()
    requests = [
        StepRequest(
            policy.prompt_ids("What is 3 + 4?"),
            torch.zeros((NUM_PARTICLES, 0), dtype=torch.long),
            torch.zeros(NUM_PARTICLES, dtype=torch.long),
            CacheRows.none(NUM_PARTICLES),
            rule=Delimiter(),
            max_tokens=6,
            uniforms=UniformTable(NUM_PARTICLES, torch.Generator().manual_seed(seed)),
            **each,
        )
        for seed, each in enumerate(settings)
    ]
    batch.join(requests)
    while len(answers) < len(requests):
        answers |= {requests.index(request): answer for request, answer in batch.advance()}
    return [answers[n] for n in range(len(requests))]


@pytest.fixture
def in_parts(policy: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """A function that lets so many rows be drawn from at once; returns a list of how many were."""

    def limited(num_rows: int) -> list[int]:
        seen = list[int]()

        def spy(log_probs: Tensor, *args: Any) -> Tensor:
            seen.append(len(log_probs))
            return invert(log_probs, *args)

        monkeypatch.setattr(step_batch, "MAX_LOGITS", num_rows * policy.vocab_size)
        monkeypatch.setattr(step_batch, "invert", spy)
        return seen

    return limited


@pytest.mark.parametrize(
    "names", [*((name,) for name in SETTINGS), ("tempered", "read", "plain")], ids="+".join
)
@pytest.mark.parametrize("num_rows", [3])
def test_parts_of_the_rows_draw_what_all_draw(
    policy: LanguageModel,
    in_parts: Callable[[int], list[int]],
    names: tuple[str, ...],
    num_rows: int,
) -> None:
    settings = [SETTINGS[name] for name in names]
    expected = drawn(policy, settings)
    seen = in_parts(num_rows)
    found = drawn(policy, settings)
    assert max(seen, default=0) == (0 if names == ("greedy",) else num_rows)
    for (tokens, cost), (same, same_cost) in zip(found, expected, strict=True):
        for column in COLUMNS:
            assert torch.equal(getattr(tokens, column), getattr(same, column))
        assert tokens.features is None or torch.equal(tokens.features, same.features)
        assert cost.policy_positions == same_cost.policy_positions


def test_the_first_particle_that_is_no_number_is_named(
    policy_of: Callable[..., LanguageModel], in_parts: Callable[[int], list[int]]
) -> None:
    policy, found = policy_of(), list[Any]()
    policy.model.lm_head.register_forward_hook(
        lambda _, __, logits: logits * torch.nan if len(logits) > 4 else None
    )
    for num_rows in (99, 2):
        seen = in_parts(num_rows)
        found.append(drawn(policy, [SETTINGS["plain"]])[0])
        assert 0 < max(seen) <= num_rows
    assert all(isinstance(each, NumericalError) for each in found)
    assert str(found[0]) == str(found[1])
