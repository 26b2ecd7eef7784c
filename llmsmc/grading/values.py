r"""The values of expressions: exact fractions where they can be, else numbers of eighty digits.

An expression with letters in it is taken at points that depend on the names of its letters alone;
two expressions are equal where their values are. (A nonzero polynomial is zero at few points:
Schwartz 1980.) `NUM_POINTS` of them are near zero. Others are far from it, or whole numbers, where
only exact values count: they tell |x + 10| from x + 10 and floors from ceilings.
A point at which a root or a logarithm of a negative number would be taken says nothing, unless the
expression has the imaginary unit in it or all points are of that kind.

Every operation has a bound: exact numbers have `MAX_BITS` bits at most (at points they are rounded
beyond `MAX_BITS_AT_POINTS`), others an exponent of `MAX_MAGNITUDE` at most. What goes beyond raises
`Unreadable`.
"""

import functools
import hashlib
import math
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from mpmath import MPContext  # type: ignore[import-untyped]

from llmsmc.grading.grammar import CIRCULAR, Node, Unreadable

NUM_POINTS: Final = 6
NUM_DIGITS: Final = 45
MAX_BITS: Final = 2**17
MAX_BITS_AT_POINTS: Final = 2**12
MAX_FACTORIAL: Final = 10_000
MAX_MAGNITUDE: Final = 2**18  # in bits
EXACT_TOLERANCE: Final = Fraction(1, 10**50)  # relative, between expressions
DECIMAL_TOLERANCE: Final = Fraction(1, 10**12)  # between a decimal and what is no fraction

Number = Any  # a Fraction, or an mpf or mpc of `_CONTEXT`

_CONTEXT: Final = MPContext()
_CONTEXT.dps = 80
_LOCK: Final = threading.RLock()  # the functions of mpmath change the precision while they work


@dataclass(frozen=True)
class Value:
    """What an expression is worth.

    Attributes:
        at_points: its value at each point, None where it has none; one alone if it has no letters.
        is_decimal: whether there is a decimal point in it.
    """

    at_points: tuple[Number | None, ...]
    is_decimal: bool


@functools.lru_cache(maxsize=4096)
def value(expression: Node, radians: bool = False) -> Value:
    r"""Return what an expression is worth.

    Args:
        expression: what is to be computed.
        radians: whether degrees outside of sines and the like are turned into radians; else the
            sign of degrees is left out.

    Raises:
        Unreadable: it is no expression, has no value anywhere, or one beyond the bounds.
    """
    names = sorted(set(_names(expression)))
    with _LOCK:
        if not names:
            found = [_Calculator({}, True, radians).safe(expression)]
        else:
            has_i = "i" in _constants(expression)
            found = _at_points(expression, names, has_i, radians)
            if all(each is None for each in found) and not has_i:
                found = _at_points(expression, names, True, radians)
    if all(each is None for each in found):
        raise Unreadable("no value")
    return Value(tuple(found), any(node.is_decimal for node in _nodes(expression)))


def is_equal(left: Value, right: Value) -> bool:
    """Whether two expressions have the same value wherever both have one."""
    is_decimal = left.is_decimal or right.is_decimal
    pairs = _pairs(left, right)
    return bool(pairs) and all(_is_close(x, y, is_decimal) for x, y in pairs)


def digits(number: Value) -> tuple[str, ...] | None:
    """Return the first digits of a value at the points near zero, the same for equal values.

    None of a decimal, which is equal to what has its digits, and of what has no value at a point.
    """
    near = number.at_points[:NUM_POINTS]
    if number.is_decimal or any(x is None for x in near):
        return None
    with _LOCK:
        found = [_CONTEXT.nstr(_float(x), NUM_DIGITS) for x in near]
    return tuple(found) if len(set(found)) > 1 else (found[0],)


def ratio_sign(left: Value, right: Value) -> int:
    """Return the sign of the constant that two expressions differ by, 0 if by no constant."""
    is_decimal = left.is_decimal or right.is_decimal
    pairs = _pairs(left, right)
    with _LOCK:
        if len(pairs) < 2 or not all(y for _, y in pairs):
            return 0
        ratios = [_divided(x, y) for x, y in pairs]
        if not ratios[0] or not all(_is_close(ratios[0], each, is_decimal) for each in ratios):
            return 0
        real = _float(ratios[0]).real
    return 1 if real > 0 else -1


def real_value(expression: Node) -> Number:
    """Return the value of an expression that is a real number, as something to sort by."""
    found = value(expression).at_points
    with _LOCK:
        number = _float(found[0])
        if len(found) > 1 or number.imag != 0:
            raise Unreadable("no real number")
        return number.real


def _pairs(left: Value, right: Value) -> list[tuple[Number, Number]]:
    """Return the two values at each point at which both have one."""
    size = max(len(left.at_points), len(right.at_points))
    values = [
        each.at_points * size if len(each.at_points) == 1 else each.at_points
        for each in (left, right)
    ]
    return [(x, y) for x, y in zip(*values, strict=True) if x is not None and y is not None]


def _is_close(x: Number, y: Number, is_decimal: bool) -> bool:
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y
    with _LOCK:
        one, other = _float(x), _float(y)
        if _CONTEXT.isinf(one) or _CONTEXT.isinf(other):
            return bool(one == other)
        tolerance = _float(DECIMAL_TOLERANCE if is_decimal else EXACT_TOLERANCE)
        return bool(abs(one - other) <= tolerance * max(abs(one), abs(other)))


def _nodes(expression: Node) -> Iterator[Node]:
    yield expression
    for part in expression.parts:
        yield from _nodes(part)


def _names(expression: Node) -> Iterator[str]:
    for node in _nodes(expression):
        if node.kind == "symbol":
            yield node.text
        elif node.kind == "call" and node.text not in _FUNCTIONS:
            yield repr(node)


def _constants(expression: Node) -> set[str]:
    return {node.text for node in _nodes(expression) if node.kind == "constant"}


def _at_points(
    expression: Node, names: list[str], is_complex: bool, radians: bool
) -> list[Number | None]:
    points = [{name: _coordinate(name, index) for name in names} for index in range(len(_SIZES))]
    calculators = [_Calculator(point, is_complex, radians) for point in points]
    found = [calculator.safe(expression) for calculator in calculators[:NUM_POINTS]]
    if not _is_exact(expression):
        return found + [None] * (len(_SIZES) - NUM_POINTS)
    for calculator in calculators[NUM_POINTS:]:
        number = None
        with suppress(Unreadable):
            number = calculator.safe(expression)
        found.append(number if isinstance(number, Fraction) else None)
    return found


def _is_exact(expression: Node) -> bool:
    """Whether the value of an expression may be a fraction wherever its letters are fractions."""
    return all(
        node.kind != "constant" and node.text not in _FUNCTIONS - _OF_FRACTIONS - {"abs"}
        for node in _nodes(expression)
    )


_SIZES: Final = (
    Fraction(1),
    Fraction(1, 10),
    Fraction(5),
    Fraction(1, 3),
    Fraction(2),
    Fraction(1),
    *map(Fraction, (20, 20, 20, 150, 150, 150, 1500, 1500)),
    *map(Fraction, (30, 30, 700)),
)
NUM_WHOLE: Final = 3  # of the points, the last ones


@functools.lru_cache(maxsize=4096)
def _coordinate(name: str, index: int) -> Fraction:
    """Return where a letter stands at a point: positive at the first half of those near zero."""
    digest = hashlib.blake2b(f"{index} {name}".encode("utf-8", "replace"), digest_size=4).digest()
    chance = int.from_bytes(digest, "big")
    size = _SIZES[index] * (1 + Fraction(chance % 997, 997))
    if index >= len(_SIZES) - NUM_WHOLE:
        size = Fraction(int(size))
    return -size if 2 * index >= NUM_POINTS and chance & 1024 else size


class _Undefined(ArithmeticError):
    """An expression has no value at a point."""


def _float(number: Number) -> Any:
    if isinstance(number, Fraction):
        return _CONTEXT.mpf(number.numerator) / number.denominator
    return number


def _bits(number: Fraction) -> int:
    return max(number.numerator.bit_length(), number.denominator.bit_length())


def _divided(x: Number, y: Number) -> Number:
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x / y
    return _float(x) / _float(y)


class _Calculator:
    """Computes an expression at a point.

    Attributes:
        point: the value of each letter.
        is_complex: whether roots and logarithms of negative numbers are taken.
        degree: what a degree is worth.
    """

    def __init__(self, point: dict[str, Fraction], is_complex: bool, radians: bool) -> None:
        self.point, self.is_complex = point, is_complex
        self.max_bits = MAX_BITS_AT_POINTS if point else MAX_BITS
        self.degree: Number = _CONTEXT.pi / 180 if radians else Fraction(1)

    def safe(self, node: Node) -> Number | None:
        """Return the value, None if there is none at this point."""
        try:
            return self.of(node)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, Unreadable):
                raise
            return None

    def of(self, node: Node) -> Number:
        """Return the value."""
        if node.kind == "number":
            return self.bounded(node.value)
        if node.kind == "symbol":
            if node.text.startswith("\\"):
                raise Unreadable(node.text)
            return self.point[node.text]
        if node.kind == "constant":
            return {
                "pi": +_CONTEXT.pi,
                "e": +_CONTEXT.e,
                "i": _CONTEXT.j,
                "inf": _CONTEXT.inf,
            }[node.text]
        if node.kind == "call":
            return self.call(node)
        if node.kind not in _OPERATIONS or not node.parts:
            raise Unreadable(node.kind)
        return getattr(self, node.kind)(*node.parts)

    def bounded(self, number: Number) -> Number:
        """Return a number, if it is within the bounds; at a point, rounded to be so."""
        if isinstance(number, Fraction):
            if _bits(number) <= self.max_bits:
                return number
            if not self.point:
                raise Unreadable("too many digits")
            number = _float(number)
        if _CONTEXT.isnan(number):
            raise _Undefined
        if number and not _CONTEXT.isinf(number) and abs(_CONTEXT.mag(number)) > MAX_MAGNITUDE:
            raise Unreadable("too large or too small")
        return number

    def divided(self, x: Number, y: Number) -> Number:
        if not y:
            raise _Undefined
        return self.bounded(_divided(x, y))

    def sum(self, *parts: Node) -> Number:
        total = self.of(parts[0])
        for part in parts[1:]:
            total = self.added(total, self.of(part))
        return total

    def added(self, x: Number, y: Number) -> Number:
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return self.bounded(x + y)
        one, other = _float(x), _float(y)
        total = one + other
        if abs(total) <= _float(EXACT_TOLERANCE) ** 1.25 * max(abs(one), abs(other)):
            return Fraction(0)  # what is left is rounding
        return self.bounded(total)

    def negative(self, part: Node) -> Number:
        return -self.of(part)

    def product(self, left: Node, right: Node) -> Number:
        return self.multiplied(self.of(left), self.of(right))

    def multiplied(self, x: Number, y: Number) -> Number:
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return self.bounded(x * y)
        return self.bounded(_float(x) * _float(y))

    def quotient(self, left: Node, right: Node) -> Number:
        return self.divided(self.of(left), self.of(right))

    def percent(self, part: Node) -> Number:
        return self.divided(self.of(part), Fraction(100))

    def degrees(self, part: Node) -> Number:
        return self.multiplied(self.of(part), self.degree)

    def unit(self, part: Node) -> Number:
        return self.of(part)

    def text(self, *letters: Node) -> Number:
        return functools.reduce(self.multiplied, map(self.of, letters))

    def power(self, base: Node, exponent: Node) -> Number:
        x, y = self.of(base), self.of(exponent)
        if isinstance(y, Fraction) and y.denominator == 1:
            if isinstance(x, Fraction):
                if not x and y <= 0:
                    raise _Undefined
                if abs(x) in (0, 1):
                    return x if y % 2 else abs(x)
                if (_bits(x) - 1) * abs(y.numerator) <= self.max_bits:
                    return self.bounded(Fraction(x**y.numerator))
                if not self.point:
                    raise Unreadable("a power of too many digits")
            elif not x and y <= 0:
                raise _Undefined
        elif isinstance(y, Fraction) and y.denominator < 1000:
            return self.raised(self.root(x, y.denominator), Fraction(y.numerator))
        elif not self.is_complex and _float(x).real < 0:
            raise _Undefined
        return self.raised(x, y)

    def raised(self, x: Number, y: Number) -> Number:
        one, other = _float(x), _float(y)
        if not one:
            if _float(y).real <= 0:
                raise _Undefined
            return Fraction(0)
        magnitude = abs(_CONTEXT.mag(one)) + 2
        if _CONTEXT.isinf(one) or _CONTEXT.isinf(other):
            raise _Undefined
        if other and _CONTEXT.mag(other) + math.log2(magnitude) > math.log2(MAX_MAGNITUDE) + 1:
            raise Unreadable("a power without end")
        return self.bounded(
            _CONTEXT.power(
                one, y.numerator if isinstance(y, Fraction) and y.denominator == 1 else other
            )
        )

    def root(self, x: Number, index: int) -> Number:
        if index == 1:
            return x
        one = _float(x)
        if isinstance(one, _CONTEXT.mpf) and one < 0:
            if index % 2:
                return -_CONTEXT.root(-one, index)
            if not self.is_complex:
                raise _Undefined
        return self.bounded(_CONTEXT.root(one, index))

    def call(self, node: Node) -> Number:
        name = node.text
        if name not in _FUNCTIONS:
            return self.point[repr(node)]
        inner = self
        if name in CIRCULAR:
            inner = _Calculator(self.point, self.is_complex, True)
        arguments = [inner.of(part) for part in node.parts]
        if name == "root":
            x, index = arguments
            if isinstance(index, Fraction) and index.denominator == 1 and 0 < index < 1000:
                return self.root(x, index.numerator)
            return self.raised(x, self.divided(Fraction(1), index))
        if name == "determinant":
            return self.determinant(arguments)
        if name in _OF_FRACTIONS:
            return self.of_fractions(name, arguments)
        if name == "abs":
            (x,) = arguments
            return abs(x)
        return self.transcendental(name, [_float(each) for each in arguments])

    def of_fractions(self, name: str, arguments: list[Number]) -> Number:
        if name == "factorial":
            (x,) = arguments
            whole = isinstance(x, Fraction) and x.denominator == 1
            if whole and 0 <= x <= MAX_FACTORIAL:
                return self.bounded(Fraction(math.factorial(x.numerator)))
            if not self.point:
                raise Unreadable("a factorial without end")
            if not -1000 < _float(x).real < 10**6:
                raise Unreadable("a factorial without end")
            return self.bounded(_CONTEXT.factorial(_float(x)))
        if name == "binomial":
            return self.binomial(*arguments)
        if name in ("floor", "ceil") and len(arguments) == 1:
            x = _float(arguments[0])
            if _CONTEXT.isinf(x) or x.imag or _CONTEXT.mag(x) > 200:
                raise _Undefined
            nearest = _CONTEXT.nint(x)
            if abs(x - nearest) < _float(EXACT_TOLERANCE):
                return Fraction(int(nearest))
            return Fraction(int(getattr(_CONTEXT, name)(x)))
        if name in ("max", "min"):
            order = sorted(arguments, key=lambda each: _float(each).real)
            return order[-1 if name == "max" else 0]
        if not all(isinstance(each, Fraction) and each.denominator == 1 for each in arguments):
            raise _Undefined
        wholes = [each.numerator for each in arguments]
        if name == "mod":
            return Fraction(wholes[0] % wholes[1])
        return self.bounded(Fraction(math.gcd(*wholes) if name == "gcd" else math.lcm(*wholes)))

    def determinant(self, cells: list[Number]) -> Number:
        """Return the determinant of a matrix, expanded along its first row."""
        size = math.isqrt(len(cells))
        if size == 1:
            return cells[0]
        if size > 4:
            raise Unreadable("a large determinant")
        total: Number = Fraction(0)
        for column in range(size):
            rest = [x for i, x in enumerate(cells[size:]) if i % size != column]
            minor = self.multiplied(cells[column], self.determinant(rest))
            total = self.added(total, minor if column % 2 == 0 else -minor)
        return total

    def binomial(self, n: Number, k: Number) -> Number:
        if isinstance(k, Fraction) and k.denominator == 1:
            if isinstance(n, Fraction) and n.denominator == 1 and n >= 0 and n - k < k:
                k = n - k
            if k < 0:
                return Fraction(0)
            if k <= 300:
                found: Number = Fraction(1)
                for j in range(int(k)):
                    step = self.added(n, Fraction(-j))
                    found = self.divided(self.multiplied(found, step), Fraction(j + 1))
                return found
        if max(abs(_float(n)), abs(_float(k))) > 10**6:
            raise Unreadable("a binomial coefficient without end")
        return self.bounded(_CONTEXT.binomial(_float(n), _float(k)))

    def transcendental(self, name: str, arguments: list[Number]) -> Number:
        if any(_CONTEXT.isinf(x) or (x and abs(_CONTEXT.mag(x)) > 1000) for x in arguments):
            if name not in ("log", "ln"):
                raise Unreadable("an argument too large")
        x = arguments[0]
        if name in ("ln", "log"):
            if not x or (not self.is_complex and x.real < 0):
                raise _Undefined
            base = {"ln": _CONTEXT.e, "log": _CONTEXT.mpf(10)}[name]
            below = _CONTEXT.log(arguments[1] if len(arguments) > 1 else base)
            return self.divided(_CONTEXT.log(x), below)
        if name == "exp":
            return self.raised(+_CONTEXT.e, x)
        if len(arguments) > 1:
            raise Unreadable(name)
        found = getattr(_CONTEXT, _SPELT.get(name, name))(x)
        if not self.is_complex and found.imag:
            raise _Undefined
        if abs(found) < _float(EXACT_TOLERANCE):
            return Fraction(0)
        if abs(found) > 1 / _float(EXACT_TOLERANCE):
            raise _Undefined
        return self.bounded(found)


_OPERATIONS: Final = {
    *("sum", "negative", "product", "quotient", "percent", "degrees", "unit", "text", "power"),
}
_OF_FRACTIONS: Final = {
    *("factorial", "binomial", "floor", "ceil", "gcd", "lcm", "max", "min", "mod"),
}
_SPELT: Final = {f"arc{name}": f"a{name}" for name in CIRCULAR}
_FUNCTIONS: Final = {
    *_OF_FRACTIONS,
    *_SPELT,
    *CIRCULAR,
    *("root", "abs", "determinant", "ln", "log", "exp", "sinh", "cosh", "tanh"),
}
