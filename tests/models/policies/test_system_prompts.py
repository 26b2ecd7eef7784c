"""Templates that have no place for a system prompt, or raise whatever else they like."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from llmsmc.errors import InputError
from llmsmc.models.text.chat import chat_text, prompt_ids, takes_system
from tests.models.conftest import tokenizer  # noqa: F401 - a fixture

Templated = Callable[[str], PreTrainedTokenizerFast]

ALTERNATE = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ message['content'] }}{% endfor %}"
)
NO_SYSTEM = [
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{{ messages[0]['content'] }}",
    ALTERNATE,
    "{% if messages | length > 1 %}{{ raise_exception('One message') }}{% endif %}"
    "{{ messages[0]['content'] }}",
    "{{ {'user': 'U'}[messages[0]['role']] + messages[0]['content'] }}",
    "{{ messages[-1]['content'] }}",
    "{{ messages[0]['content'] }}",
    "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
]
"""They raise, or leave it out; without a system prompt they are as good as any."""

BROKEN = {
    "{{ raise_exception('No.\n\x1b[31m') }}": r"'TemplateError: No. \x1b[31m'",
    "{{ messages[0]['content'] + nowhere }}": "'nowhere' is undefined",
    "{{ messages[0]['content'] ": "unexpected end of template",
    "{{ 1 // 0 }}": "integer division or modulo by zero",
    "{{ messages[7]['content'] }}": "has no element 7",
    "{{ messages | no_such_filter }}": "No filter named",
    "{{ 'a' + 1 }}": "can only concatenate str",
    "{% include 'other' %}": "no loader",
    "{{ messages.append(1) }}": "is unsafe",
    "{{ strftime_now() }}": "missing 1 required positional argument",
}
"""Template -> what is said of it, whether there is a system prompt or not."""


@pytest.fixture
def templated(
    tokenizer: PreTrainedTokenizerFast,  # noqa: F811 - a fixture
    monkeypatch: pytest.MonkeyPatch,
) -> Templated:
    def with_template(template: str) -> PreTrainedTokenizerFast:
        monkeypatch.setattr(tokenizer, "chat_template", template)
        return tokenizer

    return with_template


@pytest.mark.parametrize("template", NO_SYSTEM)
def test_a_system_prompt_that_has_no_place_stands_in_the_question(
    templated: Templated, template: str
) -> None:
    own = templated(template)
    ids = prompt_ids(own, "What is 1 + 1?", "Be brief.", 100, "it")
    assert ids == prompt_ids(own, "Be brief.\n\nWhat is 1 + 1?", None, 100, "it")
    assert not takes_system(own)


def test_a_template_that_leaves_everything_out(templated: Templated) -> None:
    with pytest.raises(InputError, match="takes no system prompt") as caught:
        prompt_ids(templated("What?"), "What is 1 + 1?", "Be brief.", 100, "it")
    assert "(leave --system out)" in str(caught.value)


@pytest.mark.parametrize(("template", "said"), BROKEN.items())
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_template_that_renders_nothing(
    templated: Templated,
    template: str,
    said: str,
    system: str | None,
) -> None:
    with pytest.raises(InputError) as caught:
        prompt_ids(templated(template), "What is 1 + 1?", system, 100, "it")
    assert str(caught.value).startswith("The chat template of the tokenizer renders no chat. Got")
    assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_template_with_a_system_prompt(
    templated: Templated,
) -> None:
    for template in (
        "{% for message in messages %}{{ message['content'] }}{% endfor %}",
        "{{ messages[0]['content'] | trim }}\n\n{{ messages[-1]['content'] }}",
        "{{ messages | map(attribute='content') | join('\n') }}",
    ):
        own = templated(template)
        assert prompt_ids(own, "What is 7?", "  First,\n\nadd. ", 100, "it")
        assert takes_system(own)
    with pytest.raises(InputError, match="renders no chat"):
        chat_text(templated(ALTERNATE), [{"role": "assistant", "content": "a"}])
