"""Step rules as they are written, and back."""

import pickle

import pytest

from llmsmc import InputError
from llmsmc.models.text.fences import OutsideFences
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.stopping import Delimiter, StepAutomaton, TokenCount
from llmsmc.models.text.thinking import Thinking
from llmsmc.solving.step_notation import NamedRule, parse_step, parse_thinking, step_text

RULE, NAME = Delimiter(";"), "tests.solving.test_step_text:RULE"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (r"\n\n", Delimiter("\n\n")),
        ("\n\n", Delimiter("\n\n")),
        (r"\t\\n##", Delimiter("\t\\n##")),
        (r"\r\n\r\n", Delimiter("\r\n\r\n")),
        ("tokens:64", TokenCount(64)),
        (r"fences:\n\n", OutsideFences("\n\n")),
        ("fences:tokens:64", OutsideFences(64)),
        (r"fences:regex:[.!?]\s", OutsideFences(RegularExpression(r"[.!?]\s"))),
        ("fences:tests.solving.test_step_text:RULE", OutsideFences(NamedRule(NAME))),
        ("regex", Delimiter("regex")),
    ],
)
def test_what_is_written_is_read_and_written(text: str, rule: object) -> None:
    assert parse_step(text) == rule
    assert parse_step(step_text(parse_step(text))) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule and hash(rule) == hash(parse_step(text))


@pytest.mark.parametrize(
    "text", ["", "tokens:", "tokens:0", "tokens:-1", "tokens:²", "regex:", "regex:(a", "fences:"]
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InputError, match="Got"):
        parse_step(text)


def test_regular_expressions() -> None:
    rule = parse_step(r"regex:[.!?]\s")
    assert rule == RegularExpression(r"[.!?]\s") == parse_step(step_text(rule))


@pytest.mark.parametrize("text", ["tests.solving.test_step_text:RULE", "rule:tests.solving.x:Y"])
def test_rules_by_name(text: str) -> None:
    if text.startswith("rule:"):
        with pytest.raises(InputError, match="No module named"):
            parse_step(text)
    else:
        rule = parse_step(text)
        assert (
            isinstance(rule, NamedRule)
            and rule.rule == RULE == pickle.loads(pickle.dumps(rule)).rule
        )
        assert step_text(rule) == text and parse_step(f"rule:{text}") == rule
        assert rule.automaton([b"a", b";"]).vocab_size == 2


@pytest.mark.parametrize(
    "text", ["Step:", ": ", "a:b c", "1:x", "a.:b", "x:y:z", "regex:a", "http://a"]
)
def test_what_is_no_name_of_a_rule(text: str) -> None:
    assert not isinstance(parse_step(text), NamedRule)


def test_a_rule_that_does_not_show_itself_is_named_by_its_class() -> None:
    class Own:
        def automaton(self, pieces: list[bytes]) -> StepAutomaton:
            return Delimiter(";").automaton(pieces)

    assert step_text(Own()) == step_text(Own())
    assert ".<locals>.Own object" in step_text(Own()) and "0x" not in step_text(Own())


def test_options_of_thinking() -> None:
    assert parse_thinking(False, None, None, True) is None
    expected = Thinking(step=TokenCount(64), max_tokens=512, scored=False)
    assert parse_thinking(True, "tokens:64", 512, False) == expected
    for wrong in (("tokens:64", None, True), (None, 512, True), (None, None, False)):
        with pytest.raises(InputError, match="--thinking beside it"):
            parse_thinking(False, *wrong)
    assert expected.config()["max_tokens"] == 512
