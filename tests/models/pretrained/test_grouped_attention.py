"""Heads share keys and values without copies, and nothing else is different."""

from pathlib import Path

import pytest
import torch
from transformers.integrations import sdpa_attention

from llmsmc.models import LanguageModel, RewardModel
from llmsmc.models.caches.attention import GROUPED
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.rewards.reward import Solution

QUESTION = "Let a = 7 + 4 * 12. Let b = a - 9. What is b?"
STEPS = ("a = 7 + 48 = 55.\n\n", "b = 55 - 9 = 46.\n\n", "\\boxed{46}")


@pytest.fixture
def reward() -> RewardModel:
    return RewardModel.from_pretrained("minimath-reward", device="cpu")


def log_odds(reward: RewardModel) -> list[list[float]]:
    """Of solutions of several lengths, fed in two passes behind one another."""
    solutions = [Solution((), STEPS[:n]) for n in (1, 2, 3)]
    first, handle, _ = reward.score_steps(QUESTION, solutions, CacheRows.none(3))
    longer = [Solution(each.steps, (f"c = {n} + 1.\n\n",)) for n, each in enumerate(solutions)]
    second, _, _ = reward.score_steps(QUESTION, longer, handle)
    return [*first, *second]


def test_scores_are_those_of_transformers_bit_for_bit(reward: RewardModel) -> None:
    ours = log_odds(reward)
    assert reward.model.config._attn_implementation == GROUPED
    reward.model.set_attn_implementation("sdpa")
    assert log_odds(reward) == ours


def test_nothing_is_copied(reward: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("copies keys or values")

    monkeypatch.setattr(sdpa_attention, "repeat_kv", refuse)
    log_odds(reward)
    reward.model.set_attn_implementation("sdpa")
    with pytest.raises(AssertionError, match="copies keys or values"):
        log_odds(reward)


def test_tokens_are_those_of_transformers_bit_for_bit() -> None:
    policy = LanguageModel.from_pretrained("minimath-policy", device="cpu")
    assert policy.model.config._attn_implementation == GROUPED
    prompt = policy.prompt_ids(QUESTION)
    ours = policy.log_probs(prompt, policy.tokens.encode(STEPS[0]))
    policy.model.set_attn_implementation("sdpa")
    assert torch.equal(policy.log_probs(prompt, policy.tokens.encode(STEPS[0])), ours)


def test_what_is_saved_does_not_ask_for_it(reward: RewardModel, tmp_path: Path) -> None:
    reward.model.save_pretrained(tmp_path)
    assert GROUPED not in (tmp_path / "config.json").read_text()
