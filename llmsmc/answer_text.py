"""Answers as they are written: one spelling for what looks alike, and the numbers among them.

Nothing here computes more than a fraction of two decimals, and every pattern reads a text in time
proportional to its length.
"""

import re
from fractions import Fraction
from typing import Final

_SYMBOLS: Final = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "\N{MIDDLE DOT}": r"\cdot ",
        "\N{GREEK SMALL LETTER PI}": r"\pi ",
        "\N{INFINITY}": r"\infty ",
        "\N{LESS-THAN OR EQUAL TO}": r"\le ",
        "\N{GREATER-THAN OR EQUAL TO}": r"\ge ",
        "\N{UNION}": r"\cup ",
        "\N{DEGREE SIGN}": r"^\circ ",
        "\N{NO-BREAK SPACE}": " ",
    }
)
_DELIMITERS: Final = ((r"\(", r"\)"), (r"\[", r"\]"), ("$$", "$$"), ("$", "$"))
_TEXT: Final = r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"

# Every rule is here because two writings of one answer differ by it.
_REPLACEMENTS: Final = (
    (re.compile(_TEXT), r"\1"),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])"), ""),
    (re.compile(r"(?<!\\)\\[!,;: ]|~"), ""),  # spaces, but not the end of a row of a matrix
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^\{?\\circ\}?"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\?\$"), ""),
    (re.compile(r"(?<![0-9\s])\s+|(?<!\s)\s+(?![0-9\s])"), ""),  # 1 4/5 is not 14/5
    (re.compile(r"\s+"), " "),
)


_UNIT: Final = re.compile(r"(?<=[0-9}]) ([a-z]{4,}(?: [a-z]{4,})*)$")


def bare(text: str) -> str:
    """Return an answer without what surrounds it, its symbols in LaTeX and its unit as text."""
    text = text.translate(_SYMBOLS).strip().removesuffix(".")
    for opening, closing in _DELIMITERS:
        if len(text) >= len(opening + closing) and text.startswith(opening):
            if text.endswith(closing):
                text = text[len(opening) : -len(closing)].strip().removesuffix(".")
    return _UNIT.sub(r" \\text{\1}", text)


def normalized(text: str) -> str:
    r"""Return the one spelling of all answers that differ only in how they are set.

    >>> normalized(r"$\dfrac{1}{2}$."), normalized(r"\left( 1, 2 \right)")
    ('\\frac{1}{2}', '(1,2)')
    """
    text = bare(text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text.strip()


_DIGITS: Final = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_DECIMAL: Final = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_SPACED: Final = r"[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]*)?"
_SIGN: Final = r"(?P<sign>[+-]?)"
_END: Final = r"(?P<percent>%?)"
_NUMBERS: Final = (
    re.compile(rf"{_SIGN}(?P<top>{_DECIMAL})(?:/(?P<bottom>{_DECIMAL}))?{_END}"),
    re.compile(rf"{_SIGN}(?P<top>{_SPACED}){_END}"),
    re.compile(rf"{_SIGN}(?P<whole>[0-9]+) (?P<top>[0-9]+)/(?P<bottom>[0-9]+){_END}"),
    re.compile(
        rf"{_SIGN}\\frac\{{(?P<top>-?{_DECIMAL})\}}\{{(?P<bottom>{_DECIMAL})\}}{_END}",
    ),
    re.compile(rf"{_SIGN}\\frac(?P<top>[0-9])(?P<bottom>[0-9]){_END}"),
    re.compile(
        rf"{_SIGN}(?P<whole>[0-9]+) ?\\frac\{{(?P<top>[0-9]+)\}}\{{(?P<bottom>[0-9]+)\}}{_END}"
    ),
)


def plain_number(text: str) -> Fraction | None:
    r"""Return the exact value of a normalized number as people write it, None if it is none.

    Decimals with or without commas, fractions, mixed numbers and percentages.

    >>> plain_number("1,000.5"), plain_number(r"-1\frac{4}{5}"), plain_number("10%")
    (Fraction(2001, 2), Fraction(-9, 5), Fraction(1, 10))
    """
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _NUMBERS)), None)
    if match is None:
        return None
    parts = match.groupdict()
    denominator = _fraction(parts.get("bottom") or "1")
    if denominator == 0:
        return None
    value = _fraction(parts.get("whole") or "0") + _fraction(parts["top"]) / denominator
    value = -value if parts["sign"] == "-" else value
    return value / 100 if parts["percent"] else value


def _fraction(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", ""))


_NUMERAL: Final = re.compile(r"0*(?P<digits>[0-9A-Za-z]+)_\{?\(?(?P<base>[0-9]+)\)?\}?")


def numeral(text: str) -> tuple[str, str] | None:
    """Return the digits and the base of a normalized numeral such as 52_8, None if it is none."""
    match = _NUMERAL.fullmatch(text)
    return (match["digits"], match["base"]) if match else None


_ONLY_TEXT: Final = re.compile(rf"(?:\s|\*|[().]|{_TEXT})+")
_LETTERS: Final = re.compile(r"[^\W\d_]{4,}")


def words(text: str) -> str | None:
    r"""Return an answer in words in lower case without brackets, None if it is not in words.

    In words is what stands in `\text{}` and holds no digit, and what is four letters or more and
    nothing else: fewer may be a product of variables.

    >>> words(r"\text{(C)}"), words("Even"), words("xyz"), words(r"\text{3 cm}")
    ('c', 'even', None, None)
    """
    spelt = normalized(text)
    wrapped = _ONLY_TEXT.fullmatch(text) is not None and "{" in text
    if not (wrapped or _LETTERS.fullmatch(spelt)) or any(c.isdigit() for c in spelt):
        return None
    return spelt.strip("()*.").casefold() or None


_BEYOND: Final = re.compile(r"\^[\s{(+-]*[0-9]{6}|[0-9]{6}[\s})]*!|(?:\^[\s{(]*[0-9]+\s*){3}")


def is_beyond_computing(text: str) -> bool:
    """Return whether a power, a factorial or a tower of powers has no end of digits.

    >>> is_beyond_computing("9^{9^{9^{9}}}"), is_beyond_computing("10000000!")
    (True, True)
    >>> is_beyond_computing("x^{100}+x^9+1"), is_beyond_computing("2^{2^{10}}")
    (False, False)
    """
    return _BEYOND.search(text) is not None
