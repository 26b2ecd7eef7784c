r"""Steps that end with a match of a regular expression.

The expression is compiled to a finite automaton over bytes, and from there to one over tokens:
reading a token is one look-up whatever the expression, and no text of a model can make it slow. So
an expression says what is matched and nothing of what stands around it; what a backtracking matcher
can do beyond that (groups that are referred to, look-around, anchors) is refused.
"""

import functools
import re._parser as parser  # type: ignore[import-not-found]
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from re import error as RegularExpressionError
from typing import Any, Final, NamedTuple

import numpy as np

from llmsmc.errors import InputError
from llmsmc.models.text.stopping import WHITESPACE, StepAutomaton, tokenwise

MAX_STATES: Final = 500  # each has a row with an entry for every token
MAX_LENGTH: Final = 2000  # characters of an expression, counts written out
MAX_DRAFT: Final = 8 * MAX_STATES  # before states that do the same are made one
MAX_WORK: Final = 4_000_000  # followed positions: about a second
MAX_PAIRS: Final = 20_000  # of a state and what has been read of a character

_UNREADABLE: Final = 0xFFFD  # the character that stands for bytes that are no text
_LAST: Final = 0x10FFFF  # the last character of Unicode

Intervals = tuple[tuple[int, int], ...]
"""Characters, by their first and last codes."""

_NO_FLAGS: Final = parser.parse("").state.flags

_CLASSES: Final[dict[str, Intervals]] = {
    "DIGIT": ((0x30, 0x39),),
    "SPACE": ((0x09, 0x0D), (0x20, 0x20)),
    "WORD": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
}
_BEYOND: Final = {
    "AT": "an anchor",
    "ASSERT": "a look-around",
    "ASSERT_NOT": "a look-around",
    "GROUPREF": "a reference to a group",
    "GROUPREF_EXISTS": "a reference to a group",
    "MIN_REPEAT": "a repetition with '?' behind it; all end as early as they can",
    "POSSESSIVE_REPEAT": "a repetition with '+' behind it; all end as early as they can",
    "ATOMIC_GROUP": "an atomic group",
}


@dataclass(frozen=True)
class RegularExpression:
    r"""A step ends with the token that completes a match of the expression.

    A match counts wherever it begins in the step, and ends as early as it can, once there is
    something other than white space in the step. What follows it within the token belongs to the
    step. Characters, classes, groups, `|` and repetitions are understood, as they are written for
    Python's `re`; `.` is not a line break, and `\d`, `\w` and `\s` are those of ASCII.
    """

    pattern: str

    def __post_init__(self) -> None:
        """Check the expression."""
        if not isinstance(self.pattern, str) or not self.pattern:
            raise _refused(self.pattern, "nothing to match")
        _bytewise(self.pattern)

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        """Return the automaton, from the transitions for single bytes."""
        table = self.transitions()
        return StepAutomaton(tokenwise(table, pieces), accept=len(table) - 1)

    def transitions(self) -> np.ndarray:
        """Return the next state for each state and byte, [S, 256]; the last one: complete."""
        return _bytewise(self.pattern)


@functools.cache
def _bytewise(pattern: str) -> np.ndarray:
    """Return the next state for each state and byte, [S, 256]; the last one: complete."""
    try:
        parsed = parser.parse(pattern)
        if parsed.state.flags != _NO_FLAGS:
            raise _BeyondError("a flag")
        if (length := _length(parsed)) > MAX_LENGTH:
            raise _TooLargeError(f"{length:,} characters when its counts are written out")
        positions, may_be_empty = _positions(parsed)
    except _BeyondError as error:
        raise _refused(pattern, str(error)) from None
    except _TooLargeError as error:
        raise _too_large(pattern, str(error)) from None
    except (RegularExpressionError, ValueError, OverflowError, RecursionError) as error:
        raise _refused(pattern, str(error)) from error
    if may_be_empty:
        raise _refused(pattern, "a match of nothing at all")
    try:
        kinds, of_kind = _kinds(positions.classes)
        table = _over_bytes(_over_kinds(positions, of_kind), kinds)
    except _TooLargeError as error:
        raise _too_large(pattern, str(error)) from None
    if not bool((table[:-1] == len(table) - 1).any()):
        raise _refused(pattern, "no text that it matches")
    return table


class _BeyondError(Exception):
    """Says what an expression has that finite automata do not know, or know otherwise."""


class _TooLargeError(Exception):
    """Says of an automaton how large it is at least."""


# From the expression to its positions (Glushkov): each character that is written in it, counts
# written out, with what may follow it. A set of positions is an integer, a bit for each of them.


@dataclass
class _Positions:
    """The positions of an expression: their classes of characters, and what may follow each.

    Attributes:
        classes: the characters of each position.
        follow: the positions that may come next.
        first: the positions that begin a match.
        last: the positions that complete one.
    """

    classes: list[Intervals]
    follow: list[int]
    first: int = 0
    last: int = 0


class _Part(NamedTuple):
    """A part of an expression: whether it may be empty, and where it begins and ends."""

    may_be_empty: bool
    first: int
    last: int


_NOTHING: Final = _Part(True, 0, 0)


def _length(items: Any) -> int:
    """Return the number of positions of a part of the expression, counts written out."""
    return sum(_length_of_one(str(kind), argument) for kind, argument in items)


def _length_of_one(kind: str, argument: Any) -> int:
    match kind:
        case "MAX_REPEAT":
            minimum, maximum, items = argument
            times = max(minimum, 1) if maximum is parser.MAXREPEAT else maximum
            return int(times) * _length(items)
        case "BRANCH":
            return sum(map(_length, argument[1]))
        case "SUBPATTERN":
            return _length(argument[-1])
        case _:
            return 1


def _positions(items: Any) -> tuple[_Positions, bool]:
    """Return the positions, and whether the expression matches nothing at all."""
    found = _Positions([], [])
    may_be_empty, found.first, found.last = _part(items, found)
    return found, may_be_empty


def _part(items: Any, found: _Positions) -> _Part:
    """Add the positions of a sequence of parts."""
    parts = (_one(str(kind), argument, found) for kind, argument in items)
    return functools.reduce(lambda one, other: _behind(one, other, found), parts, _NOTHING)


def _one(kind: str, argument: Any, found: _Positions) -> _Part:
    match kind:
        case "MAX_REPEAT":
            minimum, maximum, items = argument
            if not _length(items):
                return _NOTHING
            return _repeated(
                items, minimum, None if maximum is parser.MAXREPEAT else maximum, found
            )
        case "BRANCH":
            parts = [_part(items, found) for items in argument[1]]
            return _Part(
                any(part.may_be_empty for part in parts),
                functools.reduce(int.__or__, (part.first for part in parts)),
                functools.reduce(int.__or__, (part.last for part in parts)),
            )
        case "SUBPATTERN":
            _, added, removed, items = argument
            if added or removed:
                raise _BeyondError("a flag")
            return _part(items, found)
        case _:
            bit = 1 << len(found.classes)
            found.classes.append(_characters(kind, argument))
            found.follow.append(0)
            return _Part(False, bit, bit)


def _characters(kind: str, argument: Any) -> Intervals:
    """Return the characters of a part that is a single one."""
    match kind:
        case "LITERAL":
            return ((argument, argument),)
        case "NOT_LITERAL":
            return _others([(argument, argument)])
        case "ANY":
            return _others([(0x0A, 0x0A)])
        case "RANGE":
            return (argument,)
        case "CATEGORY":
            name = str(argument).removeprefix("CATEGORY_")
            return _others(_CLASSES[name[4:]]) if name.startswith("NOT_") else _CLASSES[name]
        case "IN":
            is_negated = str(argument[0][0]) == "NEGATE"
            members = tuple(
                interval
                for one, inner in argument[is_negated:]
                for interval in _characters(str(one), inner)
            )
            return _others(members) if is_negated else members
        case _:
            raise _BeyondError(_BEYOND.get(kind, kind))


def _others(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """Return the characters that are in none of the intervals."""
    between, start = list[tuple[int, int]](), 0
    for low, high in sorted(intervals):
        if low > start:
            between.append((start, low - 1))
        start = max(start, high + 1)
    return (*between, (start, _LAST)) if start <= _LAST else tuple(between)


def _repeated(items: Any, minimum: int, maximum: int | None, found: _Positions) -> _Part:
    """Write out x{2,4} as xx(x(x)?)?, and x{2,} as xx+."""
    whole, copy = _NOTHING, _NOTHING
    for _ in range(max(minimum, 1) if maximum is None else minimum):
        copy = _part(items, found)
        whole = _behind(whole, copy, found)
    if maximum is None:
        _link(copy.last, copy.first, found)
        return whole._replace(may_be_empty=whole.may_be_empty or minimum == 0)
    rest = _NOTHING
    for _ in range(maximum - minimum):
        rest = _behind(_part(items, found), rest, found)._replace(may_be_empty=True)
    return _behind(whole, rest, found)


def _behind(one: _Part, other: _Part, found: _Positions) -> _Part:
    """Return one part with another behind it."""
    _link(one.last, other.first, found)
    return _Part(
        one.may_be_empty and other.may_be_empty,
        one.first | (other.first if one.may_be_empty else 0),
        other.last | (one.last if other.may_be_empty else 0),
    )


def _link(last: int, first: int, found: _Positions) -> None:
    for position in _bits(last):
        found.follow[position] |= first


def _bits(positions: int) -> Iterator[int]:
    while positions:
        lowest = positions & -positions
        yield lowest.bit_length() - 1
        positions ^= lowest


# From the positions to an automaton over kinds of characters (a kind is characters that no position
# tells apart, and that are white space or are not), and from there to one over bytes.


def _kinds(classes: list[Intervals]) -> tuple[np.ndarray, list[tuple[int, bool]]]:
    """Return the kind of each character; and of each kind its positions, whether it is blank."""
    members: dict[Intervals, int] = {}
    for number, characters in enumerate(classes):
        members[characters] = members.get(characters, 0) | 1 << number
    edges = {0, _LAST + 1, *WHITESPACE, *(byte + 1 for byte in WHITESPACE)}
    for low, high in (interval for characters in members for interval in characters):
        edges |= {low, high + 1}
    starts = sorted(edges)
    matched = [0] * (len(starts) - 1)
    for characters, mask in members.items():
        for low, high in characters:
            for place in range(bisect_left(starts, low), bisect_left(starts, high + 1)):
                matched[place] |= mask
    numbers: dict[tuple[int, bool], int] = {}
    kinds = [
        numbers.setdefault((mask, start in WHITESPACE), len(numbers))
        for start, mask in zip(starts, matched, strict=False)
    ]
    return np.repeat(kinds, np.diff(starts)), list(numbers)


def _over_kinds(found: _Positions, kinds: list[tuple[int, bool]]) -> np.ndarray:
    """Return the next state for each state and kind, of an automaton that looks everywhere.

    It is in all positions that matches that have begun are in, and knows whether the step is blank;
    the last state: complete.
    """
    numbers: dict[tuple[int, bool], int] = {(0, False): 0}
    queue, rows, work = list(numbers), list[list[int]](), 0
    for positions, seen in queue:  # which grows
        reach = found.first
        for position in _bits(positions):
            reach |= found.follow[position]
        row = list[int]()
        for mask, is_blank in kinds:
            following = (reach & mask, seen or not is_blank)
            if following[1] and following[0] & found.last:
                row.append(-1)
                continue
            if following not in numbers:
                numbers[following] = len(numbers)
                queue.append(following)
            row.append(numbers[following])
        rows.append(row)
        work += positions.bit_count()
        if len(queue) > MAX_DRAFT or work > MAX_WORK:
            raise _TooLargeError(f"more than {MAX_STATES} states")
    table = np.array([*rows, [-1] * len(kinds)])
    is_last = np.arange(len(table)) == len(rows)
    return _smallest(np.where(table < 0, len(rows), table), is_last)


def _reader(kinds: np.ndarray) -> np.ndarray:
    """Return a reader of UTF-8: the next node for each node and byte, or -1 - the kind just read.

    Node 0 is between two characters. What is no text is read as if a replacement character stood
    there; a byte that breaks a character off is then to be read anew.
    """
    unreadable = -1 - kinds[_UNREADABLE]
    characters = np.full(5 << 18, unreadable)  # as many as the leading bytes F0 to F4 can begin
    characters[: len(kinds)] = -1 - kinds
    characters[0xD800:0xE000] = unreadable
    leading, nodes = np.full(256, unreadable), list[np.ndarray]()
    leading[:0x80] = characters[:0x80]
    for byte, end, num_bytes in ((0xC0, 0x800, 2), (0xE0, 0x10000, 3), (0xF0, len(characters), 4)):
        # What fewer bytes can say is no text.
        characters[: {2: 0x80, 3: 0x800, 4: 0x10000}[num_bytes]] = unreadable
        following = characters[:end]
        for _ in range(num_bytes - 1):
            unique, inverse = np.unique(following.reshape(-1, 64), axis=0, return_inverse=True)
            following = len(nodes) + 1 + inverse.reshape(-1)
            nodes.extend(unique)
        leading[byte : byte + len(following)] = following
    table = np.full((len(nodes) + 1, 256), unreadable)
    table[0] = leading
    table[1:, 0x80:0xC0] = nodes
    return table


def _over_bytes(table: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the next state for each state and byte, from that for each state and kind."""
    reader = _reader(kinds)
    num_states, num_nodes = len(table), len(reader)
    if num_states * num_nodes > MAX_PAIRS:
        raise _TooLargeError(f"more than {MAX_STATES} states over bytes")
    # A state of characters and a node of the reader, as one number.
    states = np.arange(num_states)[:, None, None]
    within = states * num_nodes + np.maximum(reader, 0)
    following = np.where(reader < 0, table[states, np.maximum(-1 - reader, 0)] * num_nodes, within)
    behind = table[:, kinds[_UNREADABLE]]
    anew = following[behind, 0]
    is_broken_off = np.ones(reader.shape, dtype=bool)
    is_broken_off[0] = is_broken_off[:, 0x80:0xC0] = False
    following = np.where(is_broken_off, anew[:, None], following)
    # States differ between two characters; within one, a state can only do the same as that behind
    # a replacement character, as which it goes on where the character is broken off.
    behind[behind == num_states - 1] = num_states
    parts = np.where(np.arange(num_nodes) == 0, states[:, 0], behind[:, None])
    parts[-1] = num_states - 1
    return _smallest(following.reshape(-1, 256), parts.reshape(-1))


def _smallest(table: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the smallest automaton that does the same; it begins in 0, and ends in the last.

    The parts are of states that differ for sure, that of the last state apart; they are divided
    until the states of one part go to the same parts (Moore).
    """
    columns, inverse = np.unique(table, axis=1, return_inverse=True)
    num_parts = 0
    while True:
        seen = np.column_stack([parts, parts[columns]])
        _, firsts, parts = np.unique(seen, axis=0, return_index=True, return_inverse=True)
        parts = parts.reshape(-1)
        if len(firsts) > MAX_STATES:
            raise _TooLargeError(f"more than {MAX_STATES} states")
        if len(firsts) == num_parts:
            break
        num_parts = len(firsts)
    # That of the first state comes first, that of the last one last.
    order = np.argsort(np.where(firsts == firsts[parts[-1]], len(table), firsts))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    smallest: np.ndarray = rank[parts[columns[firsts[order]]]][:, inverse.reshape(-1)]
    return smallest


def _refused(pattern: object, got: str) -> InputError:
    return InputError(
        "A step ends with a match of a regular expression. Got "
        f"{pattern!r}: {got}; accepted: characters, classes, groups, | and repetitions, without "
        "anchors, look-around or references."
    )


def _too_large(pattern: str, got: str) -> InputError:
    return InputError(
        f"The expression of a step is kept small. Got {pattern!r}: {got}; accepted: at most "
        f"{MAX_STATES} states, and {MAX_LENGTH:,} characters when counts are written out. Smaller "
        "counts make fewer of both, and so does {80,} in place of {80,200}: a match may begin "
        "anywhere, so that an upper limit at the beginning limits nothing."
    )
