r"""Step rules as they are written on the command line and in files.

`\n\n` is a delimiter, with the escapes `\n`, `\r`, `\t` and `\\`; `regex:[.!?]\s` a regular
expression, unchanged; `tokens:64` a number of tokens; `package.module:NAME` a rule of one's own,
and `rule:NAME` a rule of an installed package. `fences:` before any of these keeps fenced blocks
whole. A delimiter that looks like one of these forms is written as a regular expression.
"""

import re
from dataclasses import dataclass
from typing import Final

from llmsmc.errors import InputError
from llmsmc.models.text.fences import OutsideFences
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.stopping import Automaton, Delimiter, StepRule, TokenCount, step_rule
from llmsmc.models.text.thinking import Thinking
from llmsmc.registry import STEP_RULES, defined_at, is_reference

_ESCAPES: Final = {"\\n": "\n", "\\r": "\r", "\\t": "\t", "\\\\": "\\"}
_REGEX, _TOKENS, _RULE, _FENCES = "regex:", "tokens:", "rule:", "fences:"


@dataclass(frozen=True)
class NamedRule:
    """A step rule of one's own, by its name; it is imported when the value is made.

    Attributes:
        name: `package.module:NAME`, or the name in an installed package.
    """

    name: str

    def __post_init__(self) -> None:
        """Check that there is such a rule."""
        STEP_RULES.find(self.name)

    @property
    def rule(self) -> StepRule:
        """The rule itself."""
        found: StepRule = STEP_RULES.find(self.name)
        return found

    def automaton(self, pieces: list[bytes]) -> Automaton:
        """Return the rule compiled for a vocabulary."""
        return self.rule.automaton(pieces)


def parse_step(text: str) -> StepRule:
    r"""Return the rule for a text.

    >>> parse_step(r"\n\n"), parse_step("tokens:64")
    (Delimiter(text='\n\n'), TokenCount(count=64))

    Raises:
        InputError: it is none of these forms, or there is no such rule.
    """
    if text.startswith(_FENCES):
        return OutsideFences(parse_step(text.removeprefix(_FENCES)))
    if text.startswith(_REGEX):
        return RegularExpression(text.removeprefix(_REGEX))
    if text.startswith(_RULE):
        return NamedRule(text.removeprefix(_RULE))
    if text.startswith(_TOKENS):
        number = text.removeprefix(_TOKENS)
        if not number.isascii() or not number.isdigit():
            raise InputError(
                f"A step has a number of tokens. Got {text!r}; accepted: tokens:64 and the like."
            )
        return TokenCount(int(number))
    if is_reference(text):
        return NamedRule(text)
    return Delimiter(re.sub(r"\\[nrt\\]", lambda found: _ESCAPES[found[0]], text))


def parse_thinking(
    thinking: bool, step: str | None, max_tokens: int | None, scored: bool
) -> Thinking | None:
    """Return the settings of thinking that the options make, None without it.

    Raises:
        InputError: there are options of thinking, but no thinking.
    """
    if thinking:
        rule = None if step is None else parse_step(step)
        return Thinking(step=rule, max_tokens=max_tokens, scored=scored)
    if step is not None or max_tokens is not None or not scored:
        raise InputError(
            "Options of thinking are for policies that think. Got one without --thinking; "
            "accepted: --thinking beside it."
        )
    return None


def step_text(step: str | int | StepRule) -> str:
    r"""Return the text of a rule; for an unnamed rule of one's own, where it is defined.

    >>> step_text("\n\n"), step_text(64)
    ('\\n\\n', 'tokens:64')
    """
    match step_rule(step):
        case Delimiter(text):
            escapes = {value: written for written, value in _ESCAPES.items()}
            return "".join(escapes.get(character, character) for character in text)
        case TokenCount(count):
            return f"{_TOKENS}{count}"
        case RegularExpression(pattern):
            return f"{_REGEX}{pattern}"
        case OutsideFences(rule):
            return f"{_FENCES}{step_text(rule)}"
        case NamedRule(name):
            return name if is_reference(name) else f"{_RULE}{name}"
        case rule:
            return defined_at(rule)
