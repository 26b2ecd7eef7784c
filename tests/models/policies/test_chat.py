"""Chat templates: rendered as transformers does, and ended where they go on."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from llmsmc import InputError
from llmsmc.core.worker_pool import WorkerPool
from llmsmc.models.text import chat
from llmsmc.models.text.chat import chat_ids, chat_text
from llmsmc.models.text.template_pool import POOL, SCRIPT
from tests.models.architectures import tokenizer_of

ASKED = [{"role": "user", "content": "Whät is\n{{ 1 + 1 }} \\boxed{?}\u2028"}]
SAID = [
    {"role": "system", "content": "Be brief."},
    *ASKED,
    {"role": "assistant", "content": "  2 "},
    {"role": "user", "content": "Sure?"},
]


@pytest.fixture(scope="module")
def qwen() -> PreTrainedTokenizerFast:
    return tokenizer_of("qwen")


@pytest.fixture
def template(qwen: PreTrainedTokenizerFast) -> Iterator[PreTrainedTokenizerFast]:
    """A tokenizer whose template is for the test to change."""
    own = qwen.chat_template
    yield qwen
    qwen.chat_template = own


@pytest.mark.parametrize("family", ["qwen", "llama3", "gemma", "mistral", "phi3"])
@pytest.mark.parametrize("messages", [ASKED, SAID])
def test_rendered_as_by_transformers(family: str, messages: list[dict[str, str]]) -> None:
    tokenizer = tokenizer_of(family)
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, date_string="26 Jul 2024"
    )
    assert chat_text(tokenizer, messages, "26 Jul 2024") == expected
    assert chat_ids(tokenizer, messages)


def test_what_a_template_is_told(template: PreTrainedTokenizerFast) -> None:
    template.chat_template = (
        "{{ enable_thinking }} {{ thinking }} {{ eos_token }} {{ add_generation_prompt }}"
    )
    assert chat_text(template, ASKED, thinks=True) == "True True <|im_end|> True"
    assert chat_text(template, ASKED) == "False False <|im_end|> True"
    template.chat_template = {"default": "a", "tool_use": "b"}
    assert chat_text(template, ASKED) == "a"


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "powers": "{{ (10 ** (10 ** 9)) % 7 }}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_does_not_end(
    name: str, template: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "SECONDS", 0.2)
    template.chat_template = ENDLESS[name]
    with pytest.raises(InputError, match="Got one that is still at work after 0.2 s.*ends at once"):
        chat_text(template, ASKED)


REFUSED: dict[str, tuple[Any, str]] = {
    "a long loop": ("{% for a in range(10 ** 9) %}{% endfor %}", "Range too big"),
    "a long text": ("{{ 'a' * 10 ** 7 }}", "Got one that writes 10,000,000 characters"),
    "much text": (
        "{% for a in range(5000) %}{{ 'abcdefgh' * 200 }}{% endfor %}",
        "Got one that writes 8,000,000 characters",
    ),
    "memory": ("{{ 'a' * 10 ** 11 }}", "MemoryError"),
    "padding": ("{{ 'a' | center(10 ** 11) }}", "MemoryError"),
    "methods": ("{{ 'a'.ljust(10 ** 11) }}", "MemoryError"),
    "doubling": (
        "{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}"
        "{% endfor %}{{ n.s }}",
        "MemoryError",
    ),
    "itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "depth": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "RecursionError"),
    "syntax": ("{% for %}", "TemplateSyntaxError"),
    "no default": ({"tool_use": "a", "rag": "b"}, "Got several with no default"),
    "no template": ({}, "Got several with no default"),
    "names": ("{{ nothing.at.all }}", "'nothing' is undefined"),
    "insides": ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    "nothing said": (
        "{{ raise_exception('Only\x1b[31m images\nare read') }}",
        r"Only\\x1b\[31m images are",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_is_refused(
    name: str, template: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    template.chat_template, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as raised:
        chat_text(template, ASKED)
    assert len(str(raised.value)) < 500 and "\x1b" not in str(raised.value)


def test_a_template_without_system_prompts(template: PreTrainedTokenizerFast) -> None:
    template.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ messages[0].content }}"
    )
    assert chat_text(template, ASKED) == ASKED[0]["content"]
    with pytest.raises(InputError, match="'TemplateError: System role not supported' to .*system"):
        chat_text(template, SAID)


def test_one_process_renders_many_chats(template: PreTrainedTokenizerFast) -> None:
    chat_text(template, ASKED)
    started, used = POOL.num_started, time.process_time()
    for n in range(100):
        template.chat_template = f"{n} {{{{ messages[0].content }}}}"
        assert chat_text(template, ASKED).startswith(f"{n} W")
    assert POOL.num_started == started
    assert time.process_time() - used < 1


def test_a_process_is_started_before_it_is_needed() -> None:
    pool = WorkerPool(SCRIPT, 1)
    pool.start()
    pool.start()
    assert pool.num_started == 1
    assert pool.ask("render", 10.0, "{{ 1 + 1 }}", "[]", "{}") == '["text", "2"]'
    assert pool.num_started == 1
    pool.stop()
