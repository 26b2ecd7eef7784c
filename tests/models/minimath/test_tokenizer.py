"""The tokenizer keeps digits apart, text whole, and is an ordinary Hugging Face tokenizer."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llmsmc.models.minimath.problem import draw_problem
from llmsmc.models.minimath.tokenizer import STEP_MARKER, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(num_problems=500).save_pretrained(folder)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


PRINTABLE = st.text(st.sampled_from([chr(code) for code in (10, *range(32, 127))]), max_size=80)


@given(text=PRINTABLE)
def test_ascii_text_survives(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@given(number=st.integers(0, 10**12))
def test_digits_are_single_tokens_wherever_they_stand(
    tokenizer: PreTrainedTokenizerBase, number: int
) -> None:
    digits = [tokenizer.encode(d, add_special_tokens=False)[0] for d in str(number)]
    for text in (f"{number}", f"x = {number} + 1", f"has {number} apples."):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert any(ids[k : k + len(digits)] == digits for k in range(len(ids)))


def test_steps_end_in_a_token_of_their_own(tokenizer: PreTrainedTokenizerBase) -> None:
    (separator,) = tokenizer.encode("\n\n", add_special_tokens=False)
    problem = draw_problem(Random(0), 3)
    steps = problem.solution()
    joined = tokenizer.encode("\n\n".join(steps), add_special_tokens=False)
    one_by_one = []
    for step in steps:
        one_by_one += [*tokenizer.encode(step, add_special_tokens=False), separator]
    assert joined == one_by_one[:-1]


def test_other_scripts_cannot_be_represented(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.unk_token_id in tokenizer.encode("问题", add_special_tokens=False)


def test_the_chat_template_is_chatml(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [{"role": "user", "content": "What is 2 + 3?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.convert_tokens_to_ids(STEP_MARKER) != tokenizer.unk_token_id
