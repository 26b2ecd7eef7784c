"""Exact reading of arithmetic: tokens, precedence, fractions. Text is parsed, never evaluated.

Grammar, with `letter` one of the variables of the problem::

    chain   := sum ("=" sum)+
    sum     := product (("+" | "-") product)*
    product := factor (("*" | "/" | "of")? factor)*      # "3x" multiplies
    factor  := "-" factor | number "%"? | letter | "(" sum ")" | "gcd" "(" sum "," sum ")"
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

NUMBER = re.compile(r"\d+(?:\.\d+)?")
LONGEST_NUMBER = 30
"""Digits; longer ones are no numbers of this world, and cost time."""


@dataclass(frozen=True)
class Chain:
    """An equality chain found in a text: its parts as written, and their exact values."""

    parts: tuple[str, ...]
    values: tuple[Fraction | None, ...]
    has_letters: tuple[bool, ...]


class Unreadable(Exception):
    """The tokens are no expression."""


def find_chains(text: str, variables: Mapping[str, int]) -> list[Chain]:
    """Return all equality chains of a text, longest possible, from left to right."""
    chains = []
    for run in _mathematical_runs(text, variables):
        if "=" not in run:
            continue
        groups: list[list[str]] = [[]]
        for token in run:
            if token == "=":
                groups.append([])
            else:
                groups[-1].append(token)
        groups[0] = _longest_readable_tail(groups[0], variables)
        groups[-1] = _longest_readable_head(groups[-1], variables)
        values = tuple(_value_or_none(group, variables) for group in groups)
        if len(groups) >= 2 and all(groups):
            chains.append(
                Chain(
                    tuple(_joined(group) for group in groups),
                    values,
                    tuple(any(t in variables for t in group) for group in groups),
                )
            )
    return chains


def evaluate(text: str, variables: Mapping[str, int]) -> Fraction | None:
    """Return the exact value of an expression, or None where the text is none."""
    tokens = _tokens(text, variables)
    return None if tokens is None else _value_or_none(tokens, variables)


def _mathematical_runs(text: str, variables: Mapping[str, int]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    for match in _TOKEN.finditer(text):
        token = _accepted(match, variables)
        if token is None:
            runs.append([])
        else:
            runs[-1].append(token)
    return [run for run in runs if run]


_TOKEN = re.compile(r"\d+(?:\.\d+)?|[A-Za-z]+|[-+*/=()%,]|\S")


def _accepted(match: re.Match[str], variables: Mapping[str, int]) -> str | None:
    token = match.group()
    if token[0].isdigit():
        return token if len(token) <= LONGEST_NUMBER else None
    if token in "-+*/=()%" or token in ("of", "gcd") or token in variables:
        return token
    inside_gcd = token == "," and match.string.count("(", 0, match.start()) > match.string.count(
        ")", 0, match.start()
    )
    return token if inside_gcd else None


def _tokens(text: str, variables: Mapping[str, int]) -> list[str] | None:
    tokens = [_accepted(match, variables) for match in _TOKEN.finditer(text)]
    return None if None in tokens else [token for token in tokens if token is not None]


def _joined(tokens: list[str]) -> str:
    return " ".join(tokens).replace("( ", "(").replace(" )", ")").replace(" %", "%")


def _value_or_none(tokens: list[str], variables: Mapping[str, int]) -> Fraction | None:
    try:
        value, rest = _sum(tokens, variables)
    except (Unreadable, ZeroDivisionError):
        return None
    return None if rest else value


def _longest_readable_tail(tokens: list[str], variables: Mapping[str, int]) -> list[str]:
    """Drop the words before an expression, such as an article ``a``."""
    for start in range(len(tokens)):
        if _value_or_none(tokens[start:], variables) is not None:
            return tokens[start:]
    return tokens


def _longest_readable_head(tokens: list[str], variables: Mapping[str, int]) -> list[str]:
    for end in range(len(tokens), 0, -1):
        if _value_or_none(tokens[:end], variables) is not None:
            return tokens[:end]
    return tokens


def _sum(tokens: list[str], variables: Mapping[str, int]) -> tuple[Fraction, list[str]]:
    value, rest = _product(tokens, variables)
    while rest and rest[0] in "+-":
        right, after = _product(rest[1:], variables)
        value = value + right if rest[0] == "+" else value - right
        rest = after
    return value, rest


def _product(tokens: list[str], variables: Mapping[str, int]) -> tuple[Fraction, list[str]]:
    value, rest = _factor(tokens, variables)
    while rest and (rest[0] in ("*", "/", "of", "(") or rest[0] in variables):
        operator = rest[0] if rest[0] in ("*", "/", "of") else ""
        right, rest = _factor(rest[1:] if operator else rest, variables)
        value = value / right if operator == "/" else value * right
    return value, rest


def _factor(tokens: list[str], variables: Mapping[str, int]) -> tuple[Fraction, list[str]]:
    if not tokens:
        raise Unreadable
    head, rest = tokens[0], tokens[1:]
    if head == "-":
        value, rest = _factor(rest, variables)
        return -value, rest
    if NUMBER.fullmatch(head):
        value = Fraction(head)
        if rest and rest[0] == "%":
            return value / 100, rest[1:]
        return value, rest
    if head in variables:
        return Fraction(variables[head]), rest
    if head == "(":
        value, rest = _sum(rest, variables)
        return value, _expect(")", rest)
    if head == "gcd":
        first, rest = _sum(_expect("(", rest), variables)
        second, rest = _sum(_expect(",", rest), variables)
        rest = _expect(")", rest)
        if first.denominator != 1 or second.denominator != 1:
            raise Unreadable
        return Fraction(gcd(first.numerator, second.numerator)), rest
    raise Unreadable


def _expect(token: str, tokens: list[str]) -> list[str]:
    if not tokens or tokens[0] != token:
        raise Unreadable
    return tokens[1:]
