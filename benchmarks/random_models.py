"""Models with random weights and the tokens of the embedded ones, for texts that never end."""

from typing import Any, Final

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.embedded import embedded_models
from llmsmc.models import LanguageModel, Reasoning, RewardModel
from llmsmc.models.rewards.conventions.prm_head import Qwen2ForProcessRewardModel
from llmsmc.models.text.stopping import TokenCount

CONTEXT: Final = 2048
QUESTION: Final = "Let a = 7 + 4 * 12. Let b = a - 9. What is b?"


def random_models(**settings: int) -> tuple[LanguageModel, RewardModel]:
    """Return a policy that never ends a text, and a reward model.

    Args:
        settings: of the configuration, in place of those of the embedded models.
    """
    torch.manual_seed(0)
    tokens, reader = embedded_models()
    head: Any = Qwen2ForProcessRewardModel
    writer: Any = Qwen2ForCausalLM(_config(tokens.model.config, settings))
    policy = LanguageModel(writer.eval(), tokens.tokenizer)
    policy.eos_ids = ()
    reward = RewardModel(
        head(_config(reader.model.config, settings)).eval(), reader.tokenizer, "qwen"
    )
    return policy, reward


def _config(like: Any, settings: dict[str, int]) -> Qwen2Config:
    kept = like.to_dict()
    if "num_hidden_layers" in settings:
        del kept["layer_types"]
    return Qwen2Config(**{**kept, "max_position_embeddings": CONTEXT, **settings})


def endless(
    policy: LanguageModel,
    reward: RewardModel,
    num_steps: int,
    tokens_per_step: int,
    question: str = QUESTION,
) -> Reasoning:
    """Return a model whose solutions all have the same numbers of steps and tokens."""
    return Reasoning(
        policy,
        reward,
        question,
        step=TokenCount(tokens_per_step),
        max_steps=num_steps,
        stop_at_answer=False,
    )


def question_of(policy: LanguageModel, num_tokens: int) -> str:
    """Return a question whose prompt has about a number of tokens."""
    question = QUESTION
    while len(policy.prompt_ids(question)) < num_tokens:
        question = f"Let a = 7 + 4 * 12. {question}"
    return question
