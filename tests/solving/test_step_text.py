"""Step rules as they are written, and back."""

import pytest

from llmsmc import InputError
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.stopping import Delimiter, TokenCount
from llmsmc.models.text.thinking import Thinking
from llmsmc.solving.step_notation import parse_step, parse_thinking, step_text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (r"\n\n", Delimiter("\n\n")),
        ("\n\n", Delimiter("\n\n")),
        (r"\t\\n##", Delimiter("\t\\n##")),
        ("tokens:64", TokenCount(64)),
        ("regex", Delimiter("regex")),
    ],
)
def test_what_is_written_is_read_and_written(text: str, rule: object) -> None:
    assert parse_step(text) == rule
    assert parse_step(step_text(parse_step(text))) == rule


@pytest.mark.parametrize(
    "text", ["", "tokens:", "tokens:0", "tokens:-1", "tokens:²", "regex:", "regex:(a"]
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InputError, match="Got"):
        parse_step(text)


def test_regular_expressions() -> None:
    rule = parse_step(r"regex:[.!?]\s")
    assert rule == RegularExpression(r"[.!?]\s") == parse_step(step_text(rule))


def test_options_of_thinking() -> None:
    assert parse_thinking(False, None, None, True) is None
    expected = Thinking(step=TokenCount(64), max_tokens=512, scored=False)
    assert parse_thinking(True, "tokens:64", 512, False) == expected
    for wrong in (("tokens:64", None, True), (None, 512, True), (None, None, False)):
        with pytest.raises(InputError, match="--thinking beside it"):
            parse_thinking(False, *wrong)
    assert expected.config()["max_tokens"] == 512
