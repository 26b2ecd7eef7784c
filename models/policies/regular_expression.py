r"""Steps that end with a match of a regular expression.

The expression is compiled to a finite automaton over bytes, and from there to one over tokens:
reading a token is one look-up whatever the expression, and no text of a model can make it slow. So
an expression says what is matched and nothing of what stands around it; what a backtracking matcher
can do beyond that (groups that are referred to, look-around, anchors) is refused.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from llmsmc.errors import InputError
from llmsmc.extras import optional
from llmsmc.models.policies.stopping import WHITESPACE, StepAutomaton, tokenwise

MAX_STATES: Final = 500  # each has a row with an entry for every token

_UNREADABLE: Final = 0xFFFD  # the character that stands for bytes that are no text
_LAST: Final = 0x10FFFF  # the last character of Unicode
_CHARACTER: Final = re.compile(r"\\.|.", re.DOTALL)
_PART: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[*+?}][?+]|.", re.DOTALL)


@dataclass(frozen=True)
class RegularExpression:
    r"""A step ends with the token that completes a match of the expression.

    A match counts wherever it begins in the step, and ends as early as it can, once there is
    something other than white space in the step. What follows it within the token belongs to the
    step. Characters, classes, groups, `|` and repetitions are understood; `.` is not a line break,
    and `\d`, `\w` and `\s` are those of ASCII.
    """

    pattern: str

    def __post_init__(self) -> None:
        """Check the expression."""
        if not isinstance(self.pattern, str) or not self.pattern:
            raise _refused(self.pattern, "nothing to match")
        try:
            empty = re.compile(self.pattern).match("")
        except re.error as error:
            raise _refused(self.pattern, str(error)) from error
        if empty:
            raise _refused(self.pattern, "a match of nothing at all")
        _bytewise(self.pattern)

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        """Return the automaton, from the transitions for single bytes."""
        table = _bytewise(self.pattern)
        return StepAutomaton(tokenwise(table, pieces), accept=len(table) - 1)


def _translated(pattern: str) -> str:
    """Return the expression in the dialect of greenery, in which a dot is any character."""
    parts = list[str]()
    for part in _PART.findall(pattern):
        if part in ("^", "$"):
            raise _refused(pattern, f"the anchor {part!r}")
        if len(part) == 2 and part[0] in "*+?}":
            raise _refused(pattern, f"the repetition {part!r}; all end as early as they can")
        if part[0] == "\\" and part[1] in "AbBzZ0123456789":
            raise _refused(pattern, f"{part!r}")
        if part[0] == "[":
            opening = "[^" if part[1] == "^" else "["
            inner = _CHARACTER.findall(part[len(opening) : -1])
            parts.append(opening + "".join(_escaped(c, "\\[]^") for c in inner) + "]")
        else:
            parts.append("[^\n]" if part == "." else _escaped(part, "\\[]|().?*+{}", outside=True))
    return "".join(parts)


def _escaped(part: str, special: str, *, outside: bool = False) -> str:
    """Return a character escaped where, and only where, greenery wants it to be."""
    character = part[-1]
    if part[0] == "\\" and not character.isalnum():
        return f"\\{character}" if character in special + "-" * (not outside) else character
    return f"\\{part}" if not outside and part in special else part


@functools.cache
def _bytewise(pattern: str) -> np.ndarray:
    """Return the next state for each state and byte, [S, 256]; the last one: complete."""
    greenery: Any = optional("greenery", extra="regex", purpose="A regular expression")
    try:
        fsm = greenery.parse(_translated(pattern)).to_fsm()
    except InputError:
        raise
    except Exception as error:  # the parser raises errors of many types
        raise _refused(pattern, str(error) or type(error).__name__) from error
    transitions = {
        state: [
            (low, high, target)
            for characters, target in fsm.map[state].items()
            if fsm.islive(target)
            for low, high in _intervals(characters.ord_ranges, characters.negated)
        ]
        for state in fsm.states
    }
    return _Bytes(fsm.initial, frozenset(fsm.finals), transitions).table(pattern)


def _intervals(intervals: Iterable[tuple[int, int]], negated: bool) -> list[tuple[int, int]]:
    if not negated:
        return list(intervals)
    between, start = list[tuple[int, int]](), 0
    for low, high in sorted(intervals):
        if low > start:
            between.append((start, low - 1))
        start = high + 1
    return [*between, (start, _LAST)] if start <= _LAST else between


_States = frozenset[int]
_Node = tuple[_States, int] | tuple[_States, int, int]


@dataclass(frozen=True)
class _Bytes:
    """An automaton over characters, looking for a match anywhere, read byte by byte as UTF-8.

    It is in the states of all matches that have begun. Its nodes are (states, seen) between two
    characters, `seen` for whether the step is not blank any more; and within a character
    (targets, missing, -1), where the bytes that are missing do not matter any more, or
    (states, missing, low), where they make a character from `low` on.
    """

    initial: int
    finals: frozenset[int]
    transitions: dict[int, list[tuple[int, int, int]]]

    def table(self, pattern: str) -> np.ndarray:
        """Return the next node for each node and byte; the last one: complete."""
        start: _Node = (frozenset([self.initial]), 0)
        numbers: dict[_Node, int] = {start: 0}
        queue: list[_Node] = [start]
        rows = list[list[int]]()
        for node in queue:  # which grows
            row = list[int]()
            for byte in range(256):
                following = self._after(node, byte)
                if len(following) == 2 and following[1] and following[0] & self.finals:
                    row.append(-1)
                    continue
                if following not in numbers:
                    numbers[following] = len(numbers)
                    queue.append(following)
                row.append(numbers[following])
            rows.append(row)
            if len(queue) > MAX_STATES:
                raise _refused(pattern, f"an automaton of more than {MAX_STATES} states")
        table = np.array([*rows, [-1] * 256], dtype=np.int64)
        return np.where(table < 0, len(rows), table)

    def _after(self, node: _Node, byte: int) -> _Node:
        if len(node) == 3:
            states, missing, low = node
            if not 0x80 <= byte < 0xC0:  # no text: as if a replacement character stood there
                broken_off = self._target(states, _UNREADABLE) if low >= 0 else states
                return self._after((broken_off, 1), byte)
            if low < 0:
                return (states, missing - 1, -1) if missing > 1 else (states, 1)
            return self._within(states, missing - 1, low + (byte - 0x80) * 64 ** (missing - 1))
        states, seen = node
        if byte < 0x80:
            return self._target(states, byte), int(bool(seen) or byte not in WHITESPACE)
        for missing, first, last in ((1, 0xC2, 0xDF), (2, 0xE0, 0xEF), (3, 0xF0, 0xF4)):
            if first <= byte <= last:
                return self._within(states, missing, (byte & (0x3F >> missing)) * 64**missing)
        return self._target(states, _UNREADABLE), 1

    def _within(self, states: _States, missing: int, low: int) -> _Node:
        """Return the node for a character from `low` on of which some bytes are missing."""
        if missing == 0:
            return self._target(states, low), 1
        high = min(low + 64**missing - 1, _LAST)
        targets = {self._target(states, code) for code in self._changes(states, low, high)}
        if targets == {self._target(states, _UNREADABLE)}:
            return targets.pop(), missing, -1
        return states, missing, low

    def _changes(self, states: _States, low: int, high: int) -> set[int]:
        """Return characters from `low` to `high` among which every behaviour occurs."""
        edges = {
            edge
            for state in states
            for first, last, _ in self.transitions[state]
            for edge in (first, last + 1)
        }
        return {low} | {edge for edge in edges if low <= edge <= high}

    def _target(self, states: _States, code: int) -> _States:
        """Return the states after one more character, behind which a match may begin."""
        code = code if code <= _LAST else _UNREADABLE
        found = {
            target
            for state in states
            for first, last, target in self.transitions[state]
            if first <= code <= last
        }
        return frozenset({self.initial, *found})


def _refused(pattern: object, got: str) -> InputError:
    return InputError(
        "A step ends with a match of a regular expression. Got "
        f"{pattern!r}: {got}; accepted: characters, classes, groups, | and repetitions, without "
        "anchors, look-around or references."
    )
