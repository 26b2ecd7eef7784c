"""Tiny random models and a byte-level tokenizer, made on the spot: nothing is downloaded.

The policies draw short steps: a coordinate of the embeddings is the same for all tokens, so that
its column in the output embeddings acts as a bias, which is raised for line breaks and the end.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.rewards.conventions.prm_head import Qwen2ForProcessRewardModel
from llmsmc.models.rewards.reward_model import RewardModel

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>"]

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CORPUS = [
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "First, we add 3 and 4, which is 7.\n\nThen we take 7 times 2 = 14.\n\nThe answer is 14.\n",
    "system\nuser\nassistant\nWhat is 12 plus 30? It is 42.\n\n\\boxed{42}\n\n",
] * 20


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(tokenizer_models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<extra_0>"],
        chat_template=CHAT_TEMPLATE,
    )


def biased(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, biases: dict[str, float]
) -> None:
    """Make contexts matter, and raise the logits of some tokens in all of them."""
    with torch.no_grad():
        embeddings: Tensor = model.get_parameter("model.embed_tokens.weight")
        embeddings.normal_()
        embeddings[:, 0] = 3.0
        head: Tensor = model.get_parameter("lm_head.weight")
        head.normal_(std=0.4)
        head[:, 0] = 0.0
        for token, value in biases.items():
            head[tokenizer.convert_tokens_to_ids(token), 0] = value


def tiny_config(
    kind: Any,
    vocab_size: int,
    *,
    hidden_size: int = 32,
    intermediate_size: int = 64,
    max_position_embeddings: int = 2048,
) -> Any:
    return kind(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_position_embeddings,
        initializer_range=0.15,
        tie_word_embeddings=False,
        eos_token_id=2,
        bos_token_id=None,
        pad_token_id=0,
    )


@pytest.fixture(scope="session", params=["qwen2", "llama"])
def any_policy(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """Return the same test with two architectures."""
    return make_policy(tokenizer, request.param)


@pytest.fixture(scope="session")
def policy(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    return make_policy(tokenizer, "qwen2")


def local(policy: Policy) -> LanguageModel:
    """Return the policy as what it is in these tests: a network in this process."""
    assert isinstance(policy, LanguageModel)
    return policy


def make_policy(tokenizer: PreTrainedTokenizerFast, kind: str, **settings: int) -> LanguageModel:
    torch.manual_seed(0)
    model: PreTrainedModel
    if kind == "qwen2":
        model = Qwen2ForCausalLM(tiny_config(Qwen2Config, len(tokenizer), **settings))
    else:
        model = LlamaForCausalLM(tiny_config(LlamaConfig, len(tokenizer), **settings))
    biased(model, tokenizer, {".ĊĊ": 2.2, "Ċ": 2.2, "<|im_end|>": 1.8})
    return LanguageModel(model.train(False), tokenizer)


@pytest.fixture(scope="session")
def policy_of(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LanguageModel]:
    """Return a maker of policies with other settings."""
    return lambda kind="qwen2", **settings: make_policy(tokenizer, kind, **settings)


def make_reward_network(vocab_size: int, **settings: int) -> Qwen2ForProcessRewardModel:
    torch.manual_seed(1)
    config = tiny_config(Qwen2Config, vocab_size, **settings)
    network: Qwen2ForProcessRewardModel = Qwen2ForProcessRewardModel(config).train(False)
    with torch.no_grad():
        for name in ("score.0.weight", "score.2.weight"):
            network.get_parameter(name).normal_(std=0.3)  # scores that differ
    return network


@pytest.fixture(scope="session")
def reward_network(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForProcessRewardModel:
    return make_reward_network(len(tokenizer))


@pytest.fixture(scope="session")
def reward(
    tokenizer: PreTrainedTokenizerFast, reward_network: Qwen2ForProcessRewardModel
) -> RewardModel:
    return RewardModel(reward_network, tokenizer)


def saved(model: "LanguageModel | RewardModel", folder: Path) -> Path:
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory, policy: LanguageModel) -> Path:
    return saved(policy, tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory, reward: RewardModel) -> Path:
    return saved(reward, tmp_path_factory.mktemp("reward"))


# Kernels for 4-bit weights on the CPU need widths that are multiples of 64.
WIDE = {"hidden_size": 64, "intermediate_size": 128}


@pytest.fixture(scope="session")
def wide_policy_folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Path:
    return saved(make_policy(tokenizer, "qwen2", **WIDE), tmp_path_factory.mktemp("wide-policy"))


@pytest.fixture(scope="session")
def wide_reward_folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Path:
    network = make_reward_network(len(tokenizer), **WIDE)
    return saved(RewardModel(network, tokenizer), tmp_path_factory.mktemp("wide-reward"))
