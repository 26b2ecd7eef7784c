r"""Whether two answers, read by `grammar.py`, say the same.

The structures are compared first, piece by piece; what is left are single expressions, which are
equal if their values are. Every rule holds in both directions.
"""

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from llmsmc.grading.grammar import Node, Unreadable
from llmsmc.grading.units import changing_words, unit
from llmsmc.grading.values import digits, is_equal, ratio_sign, real_value, value

MAX_ALTERNATIVES: Final = 16  # of the signs of an answer with plus-minus

INFINITY: Final = Node("constant", text="inf")
REALS: Final = Node("bracket", (Node("negative", (INFINITY,)), INFINITY), "()")


def same(left: Node, right: Node) -> bool:
    """Return whether two answers say the same.

    Raises:
        Unreadable: that depends on an expression whose value cannot be computed.
    """
    if left == right:
        return True
    if left.kind == right.kind == "number":
        return left.value == right.value
    for kind, rule in _RULES.items():
        if left.kind == kind:
            return rule(left, right)
        if right.kind == kind:
            return rule(right, left)
    return _same_members(left, right)


def is_right(answer: Node, reference: Node) -> bool:
    """Return whether two answers say the same, or do so once one loses its signs of per cent.

    They may only be missing behind whole numbers.

    Raises:
        Unreadable: that depends on an expression whose value cannot be computed.
    """
    if same(answer, reference):
        return True
    kinds = [{"percent", "degrees", "unit"} & set(_kinds(each)) for each in (answer, reference)]
    if sorted(kinds, key=len) != [set(), {"percent"}]:
        return False
    return same(_without_percent(answer), _without_percent(reference))


def exact_value(answer: Node) -> tuple[str, ...] | None:
    """Return the digits of an answer that is one exact expression: others have other digits.

    None if it is not, or if something may be left out of it.
    """
    if answer.kind == "symbol" or not set(_kinds(answer)) <= _EXACT:
        return None
    with suppress(Unreadable):
        return digits(value(answer))
    return None


_EXACT: Final = {
    *("number", "symbol", "constant", "call", "power", "sum", "product", "quotient", "negative"),
}


def _without_percent(node: Node) -> Node:
    node = _canonical(node)
    if node.kind == "percent":
        number = node.parts[0]
        return number if number.kind == "number" and number.value.denominator == 1 else node
    return replace(node, parts=tuple(map(_without_percent, node.parts)))


# ---------------------------------------------------------------------- choices, words and numerals


def _same_choice(choice: Node, other: Node) -> bool:
    if other.kind == "choice":
        both = choice.parts and other.parts
        return choice.text == other.text and (not both or same(choice.parts[0], other.parts[0]))
    if _letter(other):
        return choice.text == _letter(other)
    return bool(choice.parts) and same(choice.parts[0], other)


def _letter(node: Node) -> str:
    named = node.kind in ("symbol", "constant", "text") and len(node.text) == 1
    return node.text.casefold() if named else ""


def _same_text(text: Node, other: Node) -> bool:
    if other.kind in _WITH_MEMBERS:
        return _same_members(text, other)
    if other.kind == "text":
        return text.text == other.text or (
            _is_product(text) and _is_product(other) and sorted(text.text) == sorted(other.text)
        )
    if _letter(text) or not text.parts or other.kind not in ("product", "symbol", "power"):
        return bool(_letter(text)) and _letter(text) == _letter(other)
    product = text.parts[0]
    for part in text.parts[1:]:
        product = Node("product", (product, part))
    return _same_value(product, other)


def _is_product(text: Node) -> bool:
    return bool(text.parts) and {part.text for part in text.parts} <= _UNKNOWNS


_UNKNOWNS: Final = set("kmnpqrstwxyz")


def _same_numeral(numeral: Node, other: Node) -> bool:
    if other.kind in _WITH_MEMBERS:
        return _same_members(numeral, other)
    if other.kind == "numeral":
        return numeral.text == other.text
    digits = numeral.text.split("_")[0]
    if other.kind == "number" and digits.isdigit():
        return Fraction(int(digits)) == other.value
    return False


_WITH_MEMBERS: Final = {"list", "set", "relation"}
_RULES: Final[dict[str, Callable[[Node, Node], bool]]] = {
    "choice": _same_choice,
    "text": _same_text,
    "numeral": _same_numeral,
}

# -------------------------------------------------------------------------------- lists and members


@dataclass(frozen=True)
class _Member:
    """A member of a list: what it is called (x in x = 5), what it is, and how it was written."""

    name: Node | None
    node: Node
    written: Node


def _same_members(left: Node, right: Node) -> bool:
    if {left.kind, right.kind} == {"union", "set"}:
        return _same_region(left, right)
    if {left.text, right.text} == {r"\land", r"\lor"}:
        return False
    lists = _members(left), _members(right)
    sizes = [len(each) for each in lists]
    if any(member.node.kind == "dots" for each in lists for member in each):
        return (
            sizes[0] == sizes[1]
            and left.kind == right.kind
            and all(itertools.starmap(_same_member, zip(*lists, strict=True)))
        )
    for several, other, alone in ((lists[0], lists[1], left), (lists[1], lists[0], right)):
        if alone.kind == "list" and len(several) > 1 and len(other) == 1:
            return _same_in_order(several, other[0])
    lists = _unnumbered(*lists), _unnumbered(*lists[::-1])
    names = [{member.name for member in each} for each in lists]
    if {None} in names and max(map(len, names)) > 1:  # x = 1, y = 2 and 1, 2
        return {left.kind, right.kind} == {"list"} and _same_nodes(*lists)
    return _is_matched(*lists)


def _unnumbered(members: list[_Member], others: Sequence[_Member]) -> list[_Member]:
    """Return members that are called x_1, x_2, ... as x where others are called x."""
    name = others[0].name if others else None
    if name is None or name.kind != "symbol" or len(members) < 2:
        return members
    numbered = {replace(name, text=f"{name.text}_{index + 1}") for index in range(len(members))}
    if {member.name for member in members} != numbered:
        return members
    return [replace(member, name=name) for member in members]


def _same_nodes(left: Sequence[_Member], right: Sequence[_Member]) -> bool:
    return len(left) == len(right) and all(
        _same_node(one.node, other.node) for one, other in zip(left, right, strict=True)
    )


def _same_in_order(members: Sequence[_Member], other: _Member) -> bool:
    """Whether a list without brackets has the members of a pair in its order."""
    pair = other.node
    return (
        pair.kind == "bracket"
        and pair.text == "()"
        and len(pair.parts) == len(members)
        and all(same(member.node, part) for member, part in zip(members, pair.parts, strict=True))
    )


def _is_matched(left: Sequence[_Member], right: Sequence[_Member]) -> bool:
    """Whether the members of one list are those of the other, in whatever order."""
    if len(left) != len(right):
        return False
    rest = list(right)
    same_member = _same_member if len(left) == 1 else _same_among_others
    for member in left:
        found = next((each for each in rest if same_member(member, each)), None)
        if found is None:
            return False
        rest.remove(found)
    return True


def _same_among_others(left: _Member, right: _Member) -> bool:
    """Whether two members are the same; what they count tells them apart: 5 red, 3 blue."""
    kinds, texts = {left.node.kind, right.node.kind}, {left.node.text, right.node.text}
    if kinds == {"unit"} and len(texts) > 1 and not any(map(unit, texts)):
        return False
    return _same_member(left, right)


def _members(node: Node) -> list[_Member]:
    """Return the members of a list or a set, of anything else itself, for each sign of plus-minus.

    Of a set, equal members count once. In `x = 1, 2` both are called x.
    """
    region = _alternatives_of_relations(node)
    if region is not None:
        return [region]
    parts = node.parts if node.kind in ("list", "set") else (node,)
    found: list[_Member] = []
    for part in parts:
        for each in _signs(part):
            name, called = _name(each)
            if called.kind == "list" or (called.kind == "set" and name is not None):
                inner = [replace(member, name=name) for member in _members(called)]
                found += inner
                continue
            if name is None and found and each.kind != "relation":
                name = found[-1].name
            found.append(_Member(name, called, each))
    if node.kind != "list" and len(found) > 1:
        kept: list[_Member] = []
        for member in found:
            if not any(_same_member(member, each) for each in kept):
                kept.append(member)
        return kept
    return found


def _signs(node: Node) -> list[Node]:
    r"""Return an answer for each choice of its signs; those of \pm and \mp go together."""
    kinds = list(_kinds(node))
    number = kinds.count("pm")
    if "mp" in kinds:
        return [_signed(node, [sign] * len(kinds)) for sign in (1, -1)]
    if 2**number > MAX_ALTERNATIVES:
        raise Unreadable("too many signs")
    return [_signed(node, list(signs)) for signs in itertools.product((1, -1), repeat=number)]


def _kinds(node: Node) -> list[str]:
    found = [node.kind]
    for part in node.parts:
        found += _kinds(part)
    return found


def _signed(node: Node, signs: list[int]) -> Node:
    """Return a node with the next of the signs at each plus-minus; they are taken from the list."""
    if node.kind in ("pm", "mp"):
        sign = signs.pop(0) * (1 if node.kind == "pm" else -1)
        inner = _signed(node.parts[0], signs)
        return inner if sign > 0 else Node("negative", (inner,))
    if not node.parts:
        return node
    return replace(node, parts=tuple(_signed(part, signs) for part in node.parts))


def _name(node: Node) -> tuple[Node | None, Node]:
    """Return what is called by a name, as in x = 5, x in [0, 1] and x > 3, and the name."""
    if node.kind != "relation":
        return None, node
    operators = node.text.split()
    first, last = node.parts[0], node.parts[-1]
    if set(operators) <= {"=", r"\approx"}:
        if _is_name(first):
            return first, last
        if _is_name(last) and len(node.parts) == 2:
            return last, first
        computed = len(node.parts) > 2 or (_is_closed(first) and _is_closed(last))
        return (None, last if computed else node)
    return _region_of_relation(node) or (None, node)


def _is_name(node: Node) -> bool:
    """Whether something can be the name of an unknown: a letter, f(x), AB or words."""
    if node.kind == "product" and node.parts[0] == _PROBABILITY:
        return node.parts[1].kind in ("relation", "union") or _is_name(node.parts[1])
    if node.kind in ("product", "bracket"):
        return all(_is_name(part) and part.kind != "text" for part in node.parts)
    if node.kind == "call" and node.text == "abs":
        return _has_length(node.parts[0])
    if node.kind == "call":
        return len(node.text.removesuffix("^-1").rstrip("'")) == 1
    return node.kind in ("symbol", "text") or node == Node("constant", text="i")


_PROBABILITY: Final = Node("symbol", text="P")


def _has_length(node: Node) -> bool:
    """Return whether bars around something are its length or size: AB, a vector, a set."""
    if node.kind == "product":
        return all(map(_has_length, node.parts))
    is_decorated = node.text.startswith(("vec ", "overline "))
    return node.kind == "symbol" and (is_decorated or node.text[:1].isupper())


def _same_member(left: _Member, right: _Member) -> bool:
    kinds = {left.node.kind, right.node.kind}
    if "set" in kinds and kinds.isdisjoint({"union"}) and len(kinds) > 1:
        return False  # {1} in {{1}, {2}} is not 1
    if left.name is None or right.name is None or left.name == right.name:
        if left.node.kind != "relation" and right.node.kind != "relation":
            if _same_node(left.node, right.node):
                return True
    return _same_relation(left.written, right.written)


# ---------------------------------------------------------------------------------------- structure


def _same_node(left: Node, right: Node) -> bool:
    left, right = _canonical(left), _canonical(right)
    kinds = {left.kind, right.kind}
    if "union" in kinds and not kinds & {"list", "text", "matrix"}:  # of sets as well
        return _same_region(left, right)
    if kinds & {"list", "set"}:
        return _same_members(left, right)
    if kinds & {"choice", "text", "numeral"}:
        return same(left, right)
    if "modulo" in kinds:
        return _same_residue(left, right)
    if "time" in kinds or "ratio" in kinds:
        return _same_ratio(left, right)
    if "dots" in kinds or "relation" in kinds:
        return len(kinds) == 1 and (left.kind == "dots" or _same_relation(left, right))
    if "matrix" in kinds:
        return _same_matrix(left, right)
    if "bracket" in kinds:
        return len(kinds) == 1 and left.text == right.text and _same_parts(left, right)
    return _same_value(left, right)


def _same_parts(left: Node, right: Node) -> bool:
    return len(left.parts) == len(right.parts) and all(
        itertools.starmap(same, zip(left.parts, right.parts, strict=True))
    )


def _canonical(node: Node) -> Node:
    """Return per cent and degrees in words, the real numbers and multiples of a matrix in full."""
    if node.kind == "list" and len(node.parts) == 1:
        return _canonical(node.parts[0])
    if node.kind in ("product", "negative") and "matrix" in [part.kind for part in node.parts]:
        return _multiple(node)
    if node == Node("symbol", text=r"\R"):
        return REALS
    if node.kind == "unit":
        called = unit(node.text)
        if called in ("%", "deg"):
            return Node("percent" if called == "%" else "degrees", node.parts)
    return node


def _multiple(node: Node) -> Node:
    """Return a matrix times a number, or less a sign, as a matrix; else the node itself."""
    matrix = next(part for part in node.parts if part.kind == "matrix")
    others = [part for part in node.parts if part is not matrix]
    if {"matrix", "bracket", "list"} & {kind for each in others for kind in _kinds(each)}:
        return node
    rows = (
        replace(row, parts=tuple(replace(node, parts=(*others, cell)) for cell in row.parts))
        for row in matrix.parts
    )
    return replace(matrix, parts=tuple(rows))


def _same_residue(left: Node, right: Node) -> bool:
    """Whether two numbers are the same to one modulus, which one of them may leave out."""
    if left.kind == right.kind:
        return same(left.parts[1], right.parts[1]) and _same_value(
            *(Node("call", each.parts, "mod") for each in (left, right))
        )
    residue, other = (left, right) if left.kind == "modulo" else (right, left)
    written = residue.parts[0], Node("call", residue.parts, "mod")
    return other.kind not in _STRUCTURES and any(_same_value(each, other) for each in written)


def _same_ratio(left: Node, right: Node) -> bool:
    """Whether two ratios are in proportion; two times are not, if one has minutes as the other."""
    if left.kind == right.kind == "time":
        return _same_time(left.text, right.text)
    if any(_NO_RATIO.search(node.text) for node in (left, right) if node.kind == "time"):
        return False
    left, right = _as_ratio(left), _as_ratio(right)
    for ratio, other in ((left, right), (right, left)):
        if other.kind != "ratio":
            return (
                len(ratio.parts) == 2
                and other.kind not in _STRUCTURES
                and _same_value(Node("quotient", ratio.parts), other)
            )
    return len(left.parts) == len(right.parts) and all(
        _same_value(Node("quotient", (x, left.parts[-1])), Node("quotient", (y, right.parts[-1])))
        for x, y in zip(left.parts[:-1], right.parts[:-1], strict=True)
    )


_NO_RATIO: Final = re.compile("m|:0[0-9]")  # a time with minutes 03
_STRUCTURES: Final = {"bracket", "union", "matrix", "relation", "dots", "list", "set"}


def _as_ratio(node: Node) -> Node:
    if node.kind != "time":
        return node
    return Node("ratio", tuple(Node("number", value=Fraction(x)) for x in node.text.split(":")))


def _same_time(left: str, right: str) -> bool:
    """Whether two times of day are the same; a.m. and p.m. may be left out, and so may seconds."""
    times = [_time(each) for each in (left, right)]
    if times[0][1:] != times[1][1:]:
        return False
    hours, halves = [time[0] for time in times], [text[-2:] for text in (left, right)]
    if all(half in ("am", "pm") for half in halves):
        return hours[0] == hours[1]
    return hours[0] == hours[1] or int(left.split(":")[0]) == int(right.split(":")[0])


def _time(text: str) -> tuple[int, ...]:
    numbers = [int(each) for each in re.findall("[0-9]+", text)]
    if text.endswith("m"):
        numbers[0] = numbers[0] % 12 + (12 if text.endswith("pm") else 0)
    return (*numbers, 0)[:3]


def _same_matrix(left: Node, right: Node) -> bool:
    """Whether two matrices are the same; one of one row or column is a vector in brackets."""
    if left.kind == right.kind:
        return len(left.parts) == len(right.parts) and all(
            itertools.starmap(_same_parts, zip(left.parts, right.parts, strict=True))
        )
    matrix, other = (left, right) if left.kind == "matrix" else (right, left)
    if other.kind != "bracket" or other.text != "()":
        return False
    rows = matrix.parts
    vector = rows[0].parts if len(rows) == 1 else tuple(row.parts[0] for row in rows)
    is_vector = len(rows) == 1 or len(rows[0].parts) == 1
    return is_vector and _same_parts(Node("bracket", vector), other)


# ---------------------------------------------------------------------------- relations and regions


def _same_region(left: Node, right: Node) -> bool:
    """Whether two unions are the same, their intervals joined where they can be."""
    pieces = [_pieces(side) for side in (left, right)]
    with suppress(Unreadable):  # letters among the ends have no order
        pieces = [_joined(side) for side in pieces]
    return _is_matched(*([_Member(None, each, each) for each in side] for side in pieces))


def _pieces(node: Node) -> list[Node]:
    """Return the intervals that a region is the union of; a point p is [p, p]."""
    node = _canonical(node)
    if node.kind == "set":
        return [Node("bracket", (point, point), "[]") for point in node.parts]
    if node.kind == "bracket" and len(node.parts) == 2:
        return [node]
    if node.kind != "union":
        return [Node("bracket", (node, node), "[]")]
    left, right = map(_pieces, node.parts)
    if node.text == r"\cup":
        return [*left, *right]
    if node.text != r"\setminus" or any(piece.text != "[]" for piece in right):
        raise Unreadable(node.text)
    for low, high in (piece.parts for piece in right):
        if low != high:
            raise Unreadable(node.text)
        left = [part for piece in left for part in _without_point(piece, low)]
    return left


def _without_point(interval: Node, point: Node) -> list[Node]:
    low, high = interval.parts
    if not real_value(low) <= real_value(point) <= real_value(high):
        return [interval]
    parts = (
        Node("bracket", (low, point), interval.text[0] + ")"),
        Node("bracket", (point, high), "(" + interval.text[1]),
    )
    return [part for part in parts if not _same_value(*part.parts)]


def _joined(intervals: Sequence[Node]) -> list[Node]:
    """Return intervals in order, those joined that overlap or touch."""
    found: list[Node] = []
    for interval in sorted(
        intervals, key=lambda each: (real_value(each.parts[0]), each.text[0] == "(")
    ):
        if found:
            last = found[-1]
            gap = real_value(interval.parts[0]) - real_value(last.parts[1])
            touches = _same_value(interval.parts[0], last.parts[1])
            if (gap < 0 and not touches) or (
                touches and (last.text[1], interval.text[0]) != (")", "(")
            ):
                ends = [
                    (real_value(each.parts[1]), each.text[1] == "]", each.parts[1])
                    for each in (last, interval)
                ]
                high = max(ends, key=lambda end: end[:2])
                brackets = last.text[0] + ("]" if high[1] else ")")
                found[-1] = Node("bracket", (last.parts[0], high[2]), brackets)
                continue
        found.append(interval)
    return found


_FLIPPED: Final = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}


def _region_of_relation(relation: Node) -> tuple[Node, Node] | None:
    """Return the unknown of an inequality, and where it may be; None if that is not so plain."""
    operators, parts = relation.text.split(), relation.parts
    if operators == [r"\in"] and _is_name(parts[0]):
        return parts[0], _canonical(parts[1])
    if not all(operator in _FLIPPED for operator in operators):
        return None
    if len(parts) == 2:
        (operator,) = operators
        if _is_closed(parts[0]):
            operator, parts = _FLIPPED[operator], parts[::-1]
        return _ray(parts[0], operator, parts[1])
    if len(parts) != 3 or not _is_name(parts[1]):
        return None
    if operators[0] in (">", r"\ge"):
        operators, parts = [_FLIPPED[each] for each in operators[::-1]], parts[::-1]
    if not all(operator in ("<", r"\le") for operator in operators):
        return None
    if not (_is_closed(parts[0]) and _is_closed(parts[2])):
        return None
    return parts[1], _interval(parts[0], operators[0], operators[1], parts[2])


def _interval(low: Node, opening: str, closing: str, high: Node) -> Node:
    brackets = ("(" if opening == "<" else "[") + (")" if closing == "<" else "]")
    return Node("bracket", (low, high), brackets)


def _ray(left: Node, operator: str, bound: Node) -> tuple[Node, Node] | None:
    """Return the region of x < a, |x| < a and |x - c| < a."""
    if not _is_closed(bound):
        return None
    strict = "<" if operator in ("<", ">") else r"\le"
    is_below = operator in ("<", r"\le")
    low, high = REALS.parts
    if _is_name(left):
        ends = (low, "<", strict, bound) if is_below else (bound, strict, "<", high)
        return left, _interval(*ends)
    if left.kind != "call" or left.text != "abs":
        return None
    name, centre = _shifted(left.parts[0])
    if name is None:
        return None
    ends_of = (
        Node("sum", (centre, Node("negative", (bound,)))),
        Node("sum", (centre, bound)),
    )
    if is_below:
        return name, _interval(ends_of[0], strict, strict, ends_of[1])
    rays = _interval(low, "<", strict, ends_of[0]), _interval(ends_of[1], strict, "<", high)
    return name, Node("union", rays, r"\cup")


def _shifted(node: Node) -> tuple[Node | None, Node]:
    """Return x and c of x - c."""
    if _is_name(node):
        return node, Node("number")
    if node.kind == "sum" and _is_name(node.parts[0]):
        rest = node.parts[1:]
        if all(map(_is_closed, rest)):
            return node.parts[0], Node("negative", (Node("sum", rest),))
    return None, node


def _is_closed(node: Node) -> bool:
    """Whether an expression has no letters in it and is one number."""
    return not {"symbol", "text", *_STRUCTURES} & set(_kinds(node))


def _alternatives_of_relations(node: Node) -> _Member | None:
    r"""Return the one region of inequalities in the same unknown joined by `or` or by `and`.

    A comma stands for `and` between two rays that overlap, else for `or`. What the unknown is not
    equal to, as in `x > 0, x \ne 1, 2`, is no part of it.
    """
    parts = node.parts if node.kind == "list" else (node,)
    if not parts or parts[0].kind != "relation" or (len(parts) == 1 and parts[0].text != r"\ne"):
        return None
    excluded: list[Node] = []
    regions: list[tuple[Node, Node] | None] = []
    for part in itertools.chain.from_iterable(map(_signs, parts)):
        if part.kind == "relation" and part.text == r"\ne":
            unknown, point = part.parts
            regions.append((unknown, REALS) if _is_name(unknown) else None)
        elif excluded and part.kind != "relation":
            point = part
        else:
            regions.append(_region_of_relation(part) if part.kind == "relation" else None)
            continue
        if not _is_closed(point):
            return None
        excluded.append(point)
    if not all(regions) or len({region[0] for region in regions if region}) > 1:
        return None
    joint = _joint([region[1] for region in regions if region and region[1] != REALS], node.text)
    if joint is not None and excluded:
        joint = Node("union", (joint, Node("set", tuple(excluded))), r"\setminus")
    name_of_all = regions[0][0] if regions[0] else None
    return None if joint is None else _Member(name_of_all, joint, node)


def _joint(intervals: Sequence[Node], joined_by: str) -> Node | None:
    """Return the union of intervals, or where two of them overlap that are joined by `and`."""
    if not intervals:
        return REALS
    both = _overlap(intervals)
    if len(intervals) > 1 and (joined_by in ("and", r"\land") or (joined_by == "," and both)):
        return both
    return functools.reduce(lambda one, other: Node("union", (one, other), r"\cup"), intervals)


def _overlap(intervals: Sequence[Node]) -> Node | None:
    """Return where two rays of opposite directions overlap."""
    if len(intervals) != 2 or any(each.kind != "bracket" for each in intervals):
        return None
    low = next((each for each in intervals if each.parts[1] == INFINITY), None)
    high = next((each for each in intervals if each.parts[0] == REALS.parts[0]), None)
    if low is None or high is None or low is high:
        return None
    if real_value(low.parts[0]) >= real_value(high.parts[1]):
        return None
    return Node("bracket", (low.parts[0], high.parts[1]), low.text[0] + high.text[1])


def _same_relation(left: Node, right: Node) -> bool:
    """Whether two equations, or inequalities, differ by a constant factor."""
    if left.kind != "relation" or right.kind != "relation":
        return False
    differences, operators = list[Node](), list[str]()
    for relation in (left, right):
        if len(relation.parts) != 2 or relation.text in (r"\in", r"\approx"):
            return relation.text == (left.text, right.text)[relation is left] and _same_parts(
                left, right
            )
        first, last = relation.parts
        operator = relation.text
        if operator in (">", r"\ge"):
            operator, first, last = _FLIPPED[operator], last, first
        operators.append(operator)
        differences.append(Node("sum", (first, Node("negative", (last,)))))
    if operators[0] != operators[1]:
        return False
    if {"list", "set", "bracket", "union", "matrix", "text"} & {
        kind for each in differences for kind in _kinds(each)
    }:
        return _same_parts(left, right)
    sign = ratio_sign(*map(value, differences))
    return sign > 0 or (sign < 0 and operators[0] in ("=", r"\ne"))


# ------------------------------------------------------------------------------------- expressions


def _same_value(left: Node, right: Node) -> bool:
    """Whether two single expressions are equal, apart from what may be left out of one of them.

    That is a unit, and the sign of degrees; or one of two angles is in radians.
    """
    units = [_unit(node) for node in (left, right)]
    if set(units) == {"deg", "rad"}:
        return is_equal(value(left, radians=True), value(right, radians=True))
    if all(units) and units[0] != units[1]:
        return False
    said = [changing_words(node.text) if node.kind == "unit" else [] for node in (left, right)]
    if said[0] != said[1]:
        return False
    left, right = (node.parts[0] if node.kind == "unit" else node for node in (left, right))
    if _letter(left) and _letter(right):
        return _letter(left) == _letter(right)
    values = value(left), value(right)
    if is_equal(*values):
        return True
    if ("degrees" in _kinds(left)) != ("degrees" in _kinds(right)):
        return is_equal(value(left, radians=True), value(right, radians=True))
    return False


def _unit(node: Node) -> str | None:
    """Return the unit of an expression, None if it has none or one that has no name."""
    if node.kind == "unit":
        return unit(node.text)
    return {"degrees": "deg", "percent": "%"}.get(node.kind)
