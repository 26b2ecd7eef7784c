r"""Steps that end with a match of a regular expression.

The expression is compiled to a finite automaton over bytes, and from there to one over tokens:
reading a token is one look-up whatever the expression, and no text of a model can make it slow. So
an expression says what is matched and nothing of what stands around it; what a backtracking matcher
can do beyond that (groups that are referred to, look-around, anchors) is refused.
"""

import functools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from llmsmc.errors import InputError
from llmsmc.extras import optional
from llmsmc.models.policies.stopping import WHITESPACE, StepAutomaton, tokenwise

MAX_STATES: Final = 500  # each has a row with an entry for every token
MAX_LENGTH: Final = 2000  # characters of an expression, counts written out
MAX_DRAFT: Final = 8 * MAX_STATES  # before states that do the same are made one
MAX_WORK: Final = 4_000_000  # followed positions: about a second

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
            re.compile(self.pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise _refused(self.pattern, str(error)) from error
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
        tree = greenery.parse(_translated(pattern))
        if (length := _length(tree)) > MAX_LENGTH:
            raise _too_large(pattern, f"{length:,} characters when its counts are written out")
        positions, may_be_empty = _positions(tree)
    except InputError:
        raise
    except Exception as error:  # the parser raises errors of many types
        raise _refused(pattern, str(error) or type(error).__name__) from error
    if may_be_empty:
        raise _refused(pattern, "a match of nothing at all")
    try:
        return _Characters(positions).bytewise()
    except _TooLargeError as error:
        raise _too_large(pattern, str(error)) from None


class _TooLargeError(Exception):
    """Says of an automaton how large it is at least."""


# From the expression to its positions (Glushkov): each character that is written in it, counts
# written out, with what may follow it. A set of positions is an integer, a bit for each of them.


@dataclass
class _Positions:
    """The positions of an expression: their classes of characters, and what may follow each.

    Attributes:
        classes: of each position.
        follow: the positions that may come next.
        first: the positions that begin a match.
        last: the positions that complete one.
    """

    classes: list[Any]
    follow: list[int]
    first: int = 0
    last: int = 0


class _Part(NamedTuple):
    """A part of an expression: whether it may be empty, and where it begins and ends."""

    may_be_empty: bool
    first: int
    last: int


_NOTHING: Final = _Part(True, 0, 0)


def _length(tree: Any) -> int:
    """Return the number of positions of a part of the expression, counts written out."""
    if hasattr(tree, "concs"):
        return sum(map(_length, tree.concs))
    if hasattr(tree, "mults"):
        return sum(map(_length, tree.mults))
    if not hasattr(tree, "multiplicand"):
        return 1
    minimum, maximum = _counts(tree)
    return _length(tree.multiplicand) * (max(minimum, 1) if maximum is None else maximum)


def _counts(mult: Any) -> tuple[int, int | None]:
    return mult.multiplier.min.v, mult.multiplier.max.v


def _positions(tree: Any) -> tuple[_Positions, bool]:
    """Return the positions, and whether the expression matches nothing at all."""
    found = _Positions([], [])
    may_be_empty, found.first, found.last = _part(tree, found)
    return found, may_be_empty


def _part(tree: Any, found: _Positions) -> _Part:
    """Add the positions of a part of the expression."""
    if hasattr(tree, "concs"):
        parts = [_part(conc, found) for conc in tree.concs]
        return _Part(
            any(part.may_be_empty for part in parts),
            functools.reduce(int.__or__, (part.first for part in parts), 0),
            functools.reduce(int.__or__, (part.last for part in parts), 0),
        )
    if hasattr(tree, "mults"):
        parts = [_part(mult, found) for mult in tree.mults]
        return functools.reduce(lambda one, other: _behind(one, other, found), parts, _NOTHING)
    if hasattr(tree, "multiplicand"):
        return _repeated(tree, found) if _length(tree) else _NOTHING
    bit = 1 << len(found.classes)
    found.classes.append(tree)
    found.follow.append(0)
    return _Part(False, bit, bit)


def _repeated(mult: Any, found: _Positions) -> _Part:
    """Write out x{2,4} as xx(x(x)?)?, and x{2,} as xx+."""
    minimum, maximum = _counts(mult)
    whole, copy = _NOTHING, _NOTHING
    for _ in range(max(minimum, 1) if maximum is None else minimum):
        copy = _part(mult.multiplicand, found)
        whole = _behind(whole, copy, found)
    if maximum is None:
        _link(copy.last, copy.first, found)
        return whole._replace(may_be_empty=whole.may_be_empty or minimum == 0)
    rest = _NOTHING
    for _ in range(maximum - minimum):
        rest = _behind(_part(mult.multiplicand, found), rest, found)._replace(may_be_empty=True)
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


class _Characters:
    """The automaton that looks for a match anywhere, over kinds of characters, then over bytes.

    A kind is characters that no position tells apart, and that are white space or are not. The
    automaton is in all positions that matches that have begun are in, and knows whether the step is
    blank; the last state: complete.
    """

    def __init__(self, positions: _Positions) -> None:
        self._positions = positions
        self._starts, self._kinds, self._of_kind = self._divided()
        self._next: list[list[int]] = _smallest(self._table()).tolist()
        self._within_memory: dict[tuple[int, int], tuple[int, ...]] = {}

    def _divided(self) -> tuple[list[int], list[int], list[tuple[int, bool]]]:
        """Return where intervals of characters start, their kinds, and what each kind is."""
        members: dict[Any, int] = {}
        for number, characters in enumerate(self._positions.classes):
            members[characters] = members.get(characters, 0) | 1 << number
        intervals = {
            characters: _intervals(characters.ord_ranges, characters.negated)
            for characters in members
        }
        edges = {0, *WHITESPACE, *(byte + 1 for byte in WHITESPACE)}
        for low, high in (pair for pairs in intervals.values() for pair in pairs):
            edges |= {low, high + 1}
        starts = sorted(edge for edge in edges if edge <= _LAST)
        matched = [0] * len(starts)
        for characters, pairs in intervals.items():
            for low, high in pairs:
                for place in range(bisect_left(starts, low), bisect_right(starts, high)):
                    matched[place] |= members[characters]
        numbers: dict[tuple[int, bool], int] = {}
        kinds = [
            numbers.setdefault((mask, start in WHITESPACE), len(numbers))
            for start, mask in zip(starts, matched, strict=True)
        ]
        return starts, kinds, list(numbers)

    def _kind(self, code: int) -> int:
        place = bisect_right(self._starts, code if code <= _LAST else _UNREADABLE) - 1
        return self._kinds[place]

    def _table(self) -> np.ndarray:
        """Return the next state for each state and kind."""
        found, work = self._positions, 0
        numbers: dict[tuple[int, bool], int] = {(0, False): 0}
        queue, rows = list(numbers), list[list[int]]()
        for positions, seen in queue:  # which grows
            reach = found.first
            for position in _bits(positions):
                reach |= found.follow[position]
            row = list[int]()
            for mask, blank in self._of_kind:
                following = (reach & mask, seen or not blank)
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
        return _with_complete(rows)

    def bytewise(self) -> np.ndarray:
        """Return the next state for each state and byte, read as UTF-8.

        Nodes are (state, 0, 0) between two characters; and within a character (target, missing,
        -1), where the bytes that are missing do not matter any more, or (state, missing, low),
        where they make a character from `low` on.
        """
        numbers: dict[tuple[int, int, int], int] = {(0, 0, 0): 0}
        queue, rows = list(numbers), list[list[int]]()
        for node in queue:  # which grows
            row = list[int]()
            for following in self._row(*node):
                if following == (len(self._next) - 1, 0, 0):
                    row.append(-1)
                    continue
                if following not in numbers:
                    numbers[following] = len(numbers)
                    queue.append(following)
                row.append(numbers[following])
            rows.append(row)
            if len(queue) > MAX_DRAFT:
                raise _TooLargeError(f"more than {MAX_STATES} states over bytes")
        return _smallest(_with_complete(rows))

    def _row(self, state: int, missing: int, low: int) -> list[tuple[int, int, int]]:
        if missing == 0:
            return self._between(state)
        # What is no text is read as if a replacement character stood there.
        row = list(self._between(state if low < 0 else self._target(state, _UNREADABLE)))
        if low < 0:
            row[0x80:0xC0] = [(state, missing - 1, -1 if missing > 1 else 0)] * 64
        elif missing == 1:
            row[0x80:0xC0] = [(self._next[state][kind], 0, 0) for kind in self._last_kinds(low)]
        else:
            steps = range(low, low + 64**missing, 64 ** (missing - 1))
            row[0x80:0xC0] = [self._within(state, missing - 1, start) for start in steps]
        return row

    @functools.cache  # noqa: B019
    def _last_kinds(self, low: int) -> list[int]:
        """Return the kinds of the characters that 64 last bytes make."""
        # What one byte can say is no text in more of them.
        codes = (code if code >= 0x80 else _UNREADABLE for code in range(low, low + 64))
        return [self._kind(code) for code in codes]

    @functools.cache  # noqa: B019
    def _between(self, state: int) -> list[tuple[int, int, int]]:
        """Return the node behind each byte, between two characters."""
        row = [(self._target(state, byte), 0, 0) for byte in range(0x80)]
        row += [(self._target(state, _UNREADABLE), 0, 0)] * 0x80
        for missing, first, last in ((1, 0xC2, 0xDF), (2, 0xE0, 0xEF), (3, 0xF0, 0xF4)):
            for byte in range(first, last + 1):
                row[byte] = self._within(state, missing, (byte & (0x3F >> missing)) * 64**missing)
        return row

    def _within(self, state: int, missing: int, low: int) -> tuple[int, int, int]:
        """Return the node for a character from `low` on of which some bytes are missing."""
        targets = {self._next[state][kind] for kind in self._kinds_within(missing, low)}
        if targets == {self._target(state, _UNREADABLE)}:
            return targets.pop(), missing, -1
        return state, missing, low

    def _kinds_within(self, missing: int, low: int) -> tuple[int, ...]:
        if (missing, low) not in self._within_memory:
            first, last = max(low, 0x80), min(low + 64**missing - 1, _LAST)
            places = range(bisect_right(self._starts, first), bisect_right(self._starts, last))
            kinds = {self._kind(first if first <= last else _UNREADABLE)}
            kinds |= {self._kinds[place] for place in places}
            self._within_memory[missing, low] = tuple(kinds)
        return self._within_memory[missing, low]

    def _target(self, state: int, code: int) -> int:
        return self._next[state][self._kind(code)]


def _with_complete(rows: list[list[int]]) -> np.ndarray:
    """Return the table with a last state, complete for good, in place of -1."""
    table = np.array([*rows, [-1] * len(rows[0])], dtype=np.int64)
    return np.where(table < 0, len(rows), table)


def _smallest(table: np.ndarray) -> np.ndarray:
    """Return the smallest automaton that does the same; it begins in 0, and ends in the last.

    States are divided until those of one part go to the same parts (Moore).
    """
    columns, inverse = np.unique(table, axis=1, return_inverse=True)
    parts = np.zeros(len(table), dtype=np.int64)
    parts[-1] = 1
    while True:
        seen = np.column_stack([parts, parts[columns]])
        _, firsts, divided = np.unique(seen, axis=0, return_index=True, return_inverse=True)
        if len(firsts) > MAX_STATES:
            raise _TooLargeError(f"more than {MAX_STATES} states")
        if len(firsts) == parts.max() + 1:
            break
        parts = divided.reshape(-1)
    # That of the first state comes first, that of the last one last.
    order = np.argsort(np.where(firsts == firsts[parts[-1]], len(table), firsts))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    smallest: np.ndarray = rank[parts[columns[firsts[order]]]][:, inverse.reshape(-1)]
    return smallest


def _intervals(intervals: Iterable[tuple[int, int]], negated: bool) -> list[tuple[int, int]]:
    if not negated:
        return list(intervals)
    between, start = list[tuple[int, int]](), 0
    for low, high in sorted(intervals):
        if low > start:
            between.append((start, low - 1))
        start = high + 1
    return [*between, (start, _LAST)] if start <= _LAST else between


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
