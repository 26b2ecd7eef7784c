"""Tiny random models, and questions that some of their solutions answer."""

import pytest
from transformers import PreTrainedTokenizerFast

from llmsmc.evaluation.datasets import Example
from llmsmc.models.policies.language_model import LanguageModel
from tests.models.conftest import make_policy, policy_folder, tokenizer  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def policy(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:  # noqa: F811 - fixture
    return make_policy(tokenizer, "qwen2")


@pytest.fixture(scope="session")
def examples() -> tuple[Example, ...]:
    return tuple(Example(f"q/{n}", f"What is {n} + 1?", str(n + 1)) for n in range(10))
