r"""The arithmetic that a text writes out: equations between numbers, found and evaluated exactly.

Grammar of a side of an equation, behind a translation of LaTeX and Unicode into plain signs::

    sum     := product (("+" | "-") product)*
    product := power (("*" | "/" | "of")? power)*          # "2(3 + 4)" and "20% of 50" multiply
    power   := factor ("^" exponent)?
    factor  := "-" factor | number "%"? scale? unit* | "(" sum ")" unit*

Units are words behind a value, such as `cups/hour`. A text is read with caution: where a letter, a
function or a sign that is not known stands beside a side, that side has no value, and an equation
is compared only if both sides have one, and an operation on at least one of them. Nothing of the
text is ever evaluated as a program, and numbers, exponents and depths are bounded.

An equation also holds where the right side is the rounded left one, as precisely as it is written;
where a percentage is meant either way (25 and 25%); and where it runs on (`5 + 7 = 12 * 3 = 36`).
Between units of one kind (hours and minutes, dollars and cents) an equation that does not hold may
be a conversion, and says nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

LONGEST: Final = 20_000  # characters of a text that are read
_LONGEST_NUMBER: Final = 24  # characters
_LONGEST_SIDE: Final = 48  # tokens
_DEEPEST: Final = 12  # parentheses
_MAX_EXPONENT: Final = 20

_REPLACED: Final = [
    (r"<<[^<>\n]{0,200}>>", " "),  # annotations, which are read by themselves
    (r"\\(?:begin|end)\{[a-z]*(?:matrix|array|cases)\}", "\u00a7"),
    (r"\\(?:begin|end)\{[a-z*]+\}", "\n"),
    (r"[ \t]*(?:\\\\)?[ \t]*\n[ \t]*&?[ \t]*(?==)", " "),  # a chain over several lines
    (r"\\\\\s*&?\s*(?==)", " "),
    (r"(?<=[=≈])[ \t]*\n[ \t]*", " "),
    (r"(?m)^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+", ""),  # items of lists
    (r"\\\\", "\n"),
    (r"\{,\}|,\\!", ","),
    (
        r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]{0,200})\}",
        r" \1 ",
    ),
    (r"\\(?:left|right|big|Big|displaystyle|,|;|:|!|quad|qquad|[()\[\]])(?![a-zA-Z])", " "),
    (r"\^\{?\\circ\}?|°", " "),
    (r"\\(?:times|cdot|ast)(?![a-zA-Z])|[×·∗✕⋅]|\bmultiplied by\b", "*"),
    (r"\\div(?![a-zA-Z])|÷|\bdivided by\b", "/"),
    (r"\\(?:approx|simeq|thickapprox)(?![a-zA-Z])|[≈≃]", "≈"),
    (r"\\(?:boxed|fbox)(?![a-zA-Z])", " "),
    (r"\\%", "%"),
    (r"(?<=\d)[ \t]*\u2013[ \t]*(?=[$\d])", " - "),
    (r"(?<=\d)[ \t]*[xX][ \t]*(?=\$?\d)", " * "),
    (r"\\?\$|[€£¥`&~]|\*\*(?!\d)|(?<!\d)\*\*", " "),
    (r"\*\*", "^"),
    (r"\u2212", "-"),
    (r"²", "^2"),
    (r"³", "^3"),
    (r"\u2019", "'"),
    (r"½", "(1/2)"),
    (r"¼", "(1/4)"),
    (r"¾", "(3/4)"),
    (r"¢", " cents "),
]
_RULES: Final = [(re.compile(pattern), text) for pattern, text in _REPLACED]
_ANNOTATION: Final = re.compile(r"<<([^<>\n]{0,200})>>")

_TOKEN: Final = re.compile(
    r"(?P<number>\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<frac>\\[dtc]?frac(?![a-zA-Z]))"
    r"|(?P<word>[^\W\d][\w']*(?:-[^\W\d][\w']+)*)"
    r"|(?P<equal>==|[<>!:]=|=>|->|[<>≤≥≠→]|=|≈)"
    r"|(?P<sign>[-+*/^%(){}])"
    r"|(?P<other>\\[a-zA-Z]+|\S|\n)"
)

# A letter behind a number is a variable, an ordinal or a unit that is not known.
_GLUED: Final = re.compile(
    r"_|\.\\|(?!(?:kg|mg|lbs?|oz|cm|mm|km|ft|in|mi|hrs?|mins?|secs?|mph|ml|am|pm)\b"
    r"|[xX]\s*\$?\d)[^\W\d]"
)
_FACTOR: Final = re.compile(r"\s*(?:\.?\d|\\[dtc]?frac)|\s+\(")

_OPERATIONS: Final = {
    "x": "*",
    "times": "*",
    "plus": "+",
    "minus": "-",
    "over": "/",
}
_SCALES: Final = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
}
_STRANGE: Final = frozenset(
    "twice double triple half thrice quarter third squared cubed square cube sqrt log ln mod "
    "remainder factorial sin cos tan gcd lcm max min floor ceil power pi percent".split()
)
"""Words that change the value of what stands beside them."""

_SHORT_WORDS: Final = frozenset(
    "kg mg lb oz cm mm km ft in mi hr ml am pm kb mb gb tb a an is it he we so to of or at on by if "
    "as be do i my no up us".split()
)
_JOINTS: Final = frozenset(
    "is are was were be been equals equal gives give gave get gets got makes make made means has "
    "have had needs need will would should can could does do and or but because since so that then "
    "thus hence therefore which who where when while if than less more fewer from with for in on "
    "at to by as into the a an this these he she it they we i you his her its their our now after "
    "before each every both also only still".split()
)
"""Words that belong to a sentence, and end what is said of a value."""

_ROUNDING: Final = re.compile(
    r"≈|approx|round|about|nearest|roughly|remainder|whole number|almost",
    re.IGNORECASE,
)
_KINDS_OF_UNITS: Final = [
    frozenset(words.split())
    for words in (
        "second sec minute min hour hr day week month year decade",
        "inch inche foot feet ft yard mile mm cm meter metre km kilometer centimeter",
        "ounce oz pound lb ton gram kg kilogram mg",
        "cent penny pennie nickel dime quarter dollar",
        "pint quart gallon liter litre ml cup teaspoon tablespoon",
    )
]
"""Units of one kind, in the singular."""

_CONVERSIONS: Final = frozenset(
    [2, 3, 4, 5, 7, 8, 10, 12, 16, 24, 25, 28, 30, 31, 36, 52, 60, 100, 128, 144, 168, 360, 365]
    + [366, 1000, 1440, 1760, 2000, 3600, 5280, 10080, 86400]
)
"""Of one unit in another, and a dozen."""

_NO_END: Final = frozenset("+-*/^%")


class Interval(NamedTuple):
    """The numbers that a text may mean: a single one, or those that are rounded to it."""

    low: Fraction
    high: Fraction


@dataclass(frozen=True)
class Equation:
    """Two sides that a text says to be equal.

    Attributes:
        left: the left side as it is written.
        right: the right side.
        holds: whether they are equal; None if that cannot be told.
    """

    left: str
    right: str
    holds: bool | None


class _Token(NamedTuple):
    kind: str  # "number", "word", "sign", "equal", "strange" or "end"
    text: str


_END: Final = _Token("end", "")


@lru_cache(2**14)
def equations(text: str) -> tuple[Equation, ...]:
    """Return the equations that a text writes out, those without a value left out.

    >>> [each.holds for each in equations("He has 3 * 4 = 12 apples, and 5 + 6 = 10 pears.")]
    [True, False]
    """
    text = text[:LONGEST]
    found = list[Equation]()
    rounds, has_dollars = _ROUNDING.search(text) is not None, "$" in text
    for part in [*_ANNOTATION.findall(text), text]:
        for chain in _chains(_tokens(_plain(part))):
            found += _equations_of(chain, rounds, has_dollars)
    return tuple(found)


def _plain(text: str) -> str:
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _tokens(text: str) -> list[_Token]:
    """Return the tokens of a text in plain signs."""
    tokens = list[_Token]()
    for match in _TOKEN.finditer(text):
        kind, found = str(match.lastgroup), match.group()
        if kind == "number" and (len(found) > _LONGEST_NUMBER or _GLUED.match(text, match.end())):
            kind = "strange"
        elif kind == "word":
            kind, found = _word(found, text, match.end(), tokens)
        elif kind == "equal":
            kind = "equal" if found in "=≈" else "end"
        elif kind == "sign":
            found = {"{": "(", "}": ")"}.get(found, found)
        elif kind == "other":
            is_end = found in ".,;:?\n" or (found == "!" and not _ends_value(tokens))
            kind = "end" if is_end else "strange"
        if kind != "nothing":
            tokens.append(_Token(kind, found))
    return _without_fractions(tokens)


def _ends_value(tokens: Sequence[_Token]) -> bool:
    """Return whether a number or a parenthesis comes last."""
    return bool(tokens) and (tokens[-1].kind in ("number", "scale") or tokens[-1].text in ")%")


def _word(word: str, text: str, end: int, tokens: Sequence[_Token]) -> tuple[str, str]:
    """Return the kind of a word that ends there in a text, and how it is read."""
    lowered, last = word.lower(), tokens[-1] if tokens else _END
    if _FACTOR.match(text, end) and (_ends_value(tokens) or last.kind == "word"):
        if lowered in _OPERATIONS:
            return "sign", _OPERATIONS[lowered]
        if lowered == "of" and _ends_value(tokens):
            return "sign", "of"
        if lowered == "equals":
            return "equal", "="
    if lowered in _SCALES and last.kind == "number":
        return "scale", lowered
    # A letter is a variable; what stands before a parenthesis, a function.
    is_short = len(word) < 3 and lowered not in _SHORT_WORDS
    if lowered in _STRANGE or is_short or text[end : end + 1] in tuple("(^_{"):
        return "strange", word
    return ("joint" if lowered in _JOINTS else "word"), word


def _without_fractions(tokens: list[_Token]) -> list[_Token]:
    r"""Write `\frac{a}{b}` as ((a)/(b)); one that cannot be read is a strange sign."""
    opened, closed = _Token("sign", "("), _Token("sign", ")")
    closing, written = _closing(tokens), dict[int, list[_Token]]()
    for at, token in enumerate(tokens):
        if token.kind == "frac":
            middle = closing.get(at + 1)
            last = None if middle is None else closing.get(middle + 1)
            if middle is None or last is None or (at and tokens[at - 1].kind == "number"):
                written[at] = [_Token("strange", token.text)]
                continue
            written[at] = [opened]
            written.setdefault(middle, [closed]).append(_Token("sign", "/"))
            written.setdefault(last, [closed]).append(closed)
    return [each for at, token in enumerate(tokens) for each in written.get(at, [token])]


def _closing(tokens: Sequence[_Token]) -> dict[int, int]:
    """Return for each opening parenthesis where it is closed."""
    opened, pairs = list[int](), dict[int, int]()
    for at, token in enumerate(tokens):
        if token.text == "(":
            opened.append(at)
        elif token.text == ")" and opened:
            pairs[opened.pop()] = at
    return pairs


def _chains(tokens: Sequence[_Token]) -> Iterator[list[_Token]]:
    """Yield the runs of tokens between ends that have an equals sign."""
    run = list[_Token]()
    for token in [*tokens, _END]:
        if token.kind != "end":
            run.append(token)
            continue
        if any(each.kind == "equal" for each in run):
            yield run
        run = []


def _equations_of(chain: Sequence[_Token], rounds: bool, has_dollars: bool) -> Iterator[Equation]:
    """Yield the equations of a chain of which both sides can be read."""
    sides, signs = [list[_Token]()], list[str]()
    for token in chain:
        if token.kind == "equal":
            sides.append([])
            signs.append(token.text)
        else:
            sides[-1].append(token)
    for before, behind, sign in zip(sides, sides[1:], signs, strict=False):
        left, right = _last_side(before), _first_side(behind)
        if left is None or right is None or not (_operates(left) or _operates(right)):
            continue
        if before is sides[0] and len(before) > 1 and not _operates(left):
            continue  # a name that has a number in it
        holds: bool | None = _agree(left, right, rounds or sign == "≈")
        if not holds and (_converts(left, right, has_dollars) or _is_doubtful(left, right, rounds)):
            holds = None
        yield Equation(_shown(left), _shown(right), holds)


def _last_side(tokens: Sequence[_Token]) -> list[_Token] | None:
    """Return the longest readable end of the tokens; None if it belongs to something strange."""
    tokens = tokens[-_LONGEST_SIDE:]
    for start in range(len(tokens)):
        if tokens[start].kind in ("word", "joint", "scale"):
            continue
        reader = _Reader(tokens[start:])
        if reader.sum() is not None and reader.at == len(reader.tokens):
            is_negative = tokens[start].text == "-" and start > 0
            return None if is_negative or _is_bound(tokens[:start]) else list(tokens[start:])
    return None


def _is_bound(before: Sequence[_Token]) -> bool:
    """Return whether a value behind these tokens belongs to something that is not read."""
    if before and before[-1].kind in ("number", "scale", "strange"):
        return True
    rest = [token for token in before if token.kind not in ("word", "joint")]
    return bool(rest) and rest[-1].text in (*_NO_END, "of", ")") and rest[-1].kind == "sign"


def _first_side(tokens: Sequence[_Token]) -> list[_Token] | None:
    """Return the longest readable beginning of the tokens, as `_last_side` the end."""
    reader = _Reader(tokens[:_LONGEST_SIDE])
    if reader.sum() is None:
        return None
    behind = reader.next
    bound = behind.kind in ("strange", "number") or behind.text in (*_NO_END, "of", "(")
    # A number behind words is of the next sentence, not of this one.
    is_apart = behind.kind == "number" and tokens[reader.at - 1].kind == "word"
    return None if bound and not is_apart else list(tokens[: reader.at])


def _operates(side: Sequence[_Token]) -> bool:
    """Return whether a side has an operation on two numbers."""
    reader = _Reader(side)
    reader.sum()
    return reader.operations > 0


def _agree(left: Sequence[_Token], right: Sequence[_Token], rounds: bool) -> bool:
    """Return whether two sides are equal, percentages read in either way."""
    has_percent = any(token.text == "%" for token in (*left, *right))
    for factor in (Fraction(1, 100), Fraction(1)) if has_percent else (Fraction(1),):
        reader = _Reader(right, factor)
        value, other = _Reader(left, factor).sum(), reader.sum()
        if value is None or other is None:
            continue
        if _rounded(value, other, right, factor, rounds):
            return True
        # "5 + 7 = 12 * 3 = 36"
        if reader.operations and reader.first and _meet(value, reader.first):
            return True
        if has_percent and _meet(value, Interval(other.low * 100, other.high * 100)):
            return True
    return False


def _meet(left: Interval, right: Interval) -> bool:
    return left.low <= right.high and right.low <= left.high


def _rounded(
    left: Interval, right: Interval, side: Sequence[_Token], factor: Fraction, rounds: bool
) -> bool:
    """Return whether the left value is the right one, or is rounded or cut off to it.

    An integer is a rounded number only where the text speaks of rounding.
    """
    numbers = [token.text for token in side if token.kind == "number"]
    decimals = _decimals(numbers[0]) if len(numbers) == 1 else 0
    if len(numbers) != 1 or not (decimals or rounds):
        return _meet(left, right)
    unit = Fraction(1, 10**decimals)
    if any(token.text == "%" for token in side):
        unit *= factor
    below = above = unit if rounds else unit / 2
    if right.low >= 0:
        above = unit
    else:
        below = unit
    return _meet(left, Interval(right.low - below, right.high + above))


def _decimals(number: str) -> int:
    return len(number.partition(".")[2])


def _converts(left: Sequence[_Token], right: Sequence[_Token], has_dollars: bool) -> bool:
    """Return whether two sides may differ by the units that they are in."""
    tokens = [*left, *right]
    words = {token.text.lower().removesuffix("s") for token in tokens if token.kind == "word"}
    words |= {"dollar"} if has_dollars else set()
    if not words & {"dozen", "pair"} and all(len(words & kind) < 2 for kind in _KINDS_OF_UNITS):
        return False
    if any(token.text in ("+", "-") for token in tokens):
        return True
    value, other = _Reader(left).sum(), _Reader(right).sum()
    if value is None or other is None or not value.low or not other.low:
        return True
    ratio = value.low / other.low
    return ratio in _CONVERSIONS or 1 / ratio in _CONVERSIONS


def _is_doubtful(left: Sequence[_Token], right: Sequence[_Token], rounds: bool) -> bool:
    """Return whether sides that differ may have been meant otherwise."""
    if any(token.text == "of" for token in right):
        return True  # a part of something
    for before, token in zip(left, left[1:], strict=False):
        if token.kind == "number" and before.text in "+-" and _followed_by_percent(left, token):
            return True  # 100 + 20% may be 120
    dashes = [at for at, token in enumerate(left) if token.text == "-" and at]
    return any(_agree(left[at + 1 :], right, rounds) for at in dashes)  # "Day 3 - 4 * 5 = 20"


def _followed_by_percent(side: Sequence[_Token], token: _Token) -> bool:
    at = next(n for n, each in enumerate(side) if each is token)
    return at + 1 < len(side) and side[at + 1].text == "%"


def _shown(side: Sequence[_Token]) -> str:
    return " ".join(token.text for token in side)


class _Reader:
    """Reads a sum from the beginning of tokens, as far as that goes.

    Attributes:
        tokens: the tokens.
        at: the number of those that have been read.
        operations: the number of operations on two values so far.
        first: the first value.
    """

    def __init__(self, tokens: Sequence[_Token], percent: Fraction = Fraction(1, 100)) -> None:
        self.tokens, self.at, self.operations = tokens, 0, 0
        self.first: Interval | None = None
        self._percent, self._depth = percent, 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def sum(self) -> Interval | None:
        value = self._product()
        while value is not None and self.next.kind == "sign" and self.next.text in "+-":
            sign, start = self.next.text, self.at
            self.at += 1
            right = self._product()
            if right is None:
                self.at = start
                break
            value = _plus(value, right if sign == "+" else _minus(right))
            self.operations += 1
        return value

    def _product(self) -> Interval | None:
        value = self._power()
        while value is not None and self.next.kind == "sign":
            sign, start = self.next.text, self.at
            if sign in ("*", "/", "of"):
                self.at += 1
            elif sign != "(":
                break
            right = self._power()
            product = None if right is None else _times(value, right, divide=sign == "/")
            if product is None:
                self.at = start
                break
            value = product
            self.operations += 1
        return value

    def _power(self) -> Interval | None:
        value = self._factor()
        if value is None or self.next.text != "^":
            return value
        start = self.at
        self.at += 1
        exponent = self._factor()
        if exponent is None or not _is_small_count(exponent):
            self.at = start
            return value
        self.operations += 1
        ends = [bound ** int(exponent.low) for bound in value]
        return Interval(min(ends), max(ends))

    def _factor(self) -> Interval | None:
        token, start = self.next, self.at
        value: Interval | None = None
        self._depth += 1
        if self._depth <= _DEEPEST:
            self.at += 1
            if token.text == "-" and token.kind == "sign":
                inner = self._factor()
                value = None if inner is None else _minus(inner)
            elif token.kind == "number":
                value = self._number(token.text)
            elif token.text == "(":
                value = self.sum()
                if value is not None and self.next.text == ")":
                    self.at += 1
                else:
                    value = None
        self._depth -= 1
        if value is None:
            self.at = start
            return None
        self._skip_units()
        self.first = self.first or value
        return value

    def _number(self, text: str) -> Interval:
        value = _number(text)
        if self.next.kind == "scale":
            scale = _SCALES[self.next.text]
            value = Interval(value.low * scale, value.high * scale)
            self.at += 1
        if self.next.text == "%":
            value = Interval(value.low * self._percent, value.high * self._percent)
            self.at += 1
        return value

    def _skip_units(self) -> None:
        """Skip words, and the units behind them: `cups of tea/hour`."""
        while True:
            ahead = self.tokens[self.at : self.at + 2]
            if ahead and ahead[0].kind == "word":
                self.at += 1
            elif len(ahead) == 2 and ahead[0].text == "/" and ahead[1].kind == "word":
                self.at += 2
            else:
                return


def _number(text: str) -> Interval:
    """Return what a number may stand for: exactly itself, unless it looks rounded."""
    value, decimals = Fraction(text.replace(",", "")), _decimals(text)
    is_rounded = decimals >= 3 or (decimals == 2 and text.endswith(("33", "66", "67")))
    half = Fraction(1, 10**decimals) if is_rounded else Fraction(0)
    return Interval(value - half, value + half)


def _plus(left: Interval, right: Interval) -> Interval:
    return Interval(left.low + right.low, left.high + right.high)


def _minus(value: Interval) -> Interval:
    return Interval(-value.high, -value.low)


def _times(left: Interval, right: Interval, *, divide: bool) -> Interval | None:
    """Return the product, or the ratio; None for a division by zero."""
    if divide and right.low <= 0 <= right.high:
        return None
    factors = [1 / bound for bound in right] if divide else right
    values = [a * b for a in left for b in factors]
    return Interval(min(values), max(values))


def _is_small_count(value: Interval) -> bool:
    is_count = value.low == value.high and value.low.denominator == 1
    return is_count and 0 <= value.low <= _MAX_EXPONENT
