"""Answers as they are written: one spelling for what looks alike, and the words among them.

Nothing here computes, and every pattern reads a text in time proportional to its length.
"""

import re
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
        "\N{BULLET OPERATOR}": r"\cdot ",
        "\N{DOT OPERATOR}": r"\cdot ",
        "\N{DIVISION SIGN}": r"\div ",
        "\N{PLUS-MINUS SIGN}": r"\pm ",
        "\N{MINUS-OR-PLUS SIGN}": r"\mp ",
        "\N{NOT EQUAL TO}": r"\ne ",
        "\N{ALMOST EQUAL TO}": r"\approx ",
        "\N{ELEMENT OF}": r"\in ",
        "\N{INTERSECTION}": r"\cap ",
        "\N{SET MINUS}": r"\setminus ",
        "\N{EMPTY SET}": r"\emptyset ",
        "\N{DOUBLE-STRUCK CAPITAL R}": r"\mathbb{R}",
        "\N{SQUARE ROOT}": r"\sqrt ",
        "\N{CUBE ROOT}": r"\sqrt[3] ",
        "\N{MATHEMATICAL LEFT ANGLE BRACKET}": r"\langle ",
        "\N{MATHEMATICAL RIGHT ANGLE BRACKET}": r"\rangle ",
        "\N{GREEK SMALL LETTER THETA}": r"\theta ",
        "\N{GREEK SMALL LETTER ALPHA}": r"\alpha ",
        "\N{GREEK SMALL LETTER BETA}": r"\beta ",
        "\N{VULGAR FRACTION ONE HALF}": r"\frac{1}{2}",
        "\N{VULGAR FRACTION ONE THIRD}": r"\frac{1}{3}",
        "\N{VULGAR FRACTION TWO THIRDS}": r"\frac{2}{3}",
        "\N{VULGAR FRACTION ONE QUARTER}": r"\frac{1}{4}",
        "\N{VULGAR FRACTION THREE QUARTERS}": r"\frac{3}{4}",
    }
)
_SUPERSCRIPTS: Final = str.maketrans(
    "\N{SUPERSCRIPT ZERO}\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}"
    "\N{SUPERSCRIPT FOUR}\N{SUPERSCRIPT FIVE}\N{SUPERSCRIPT SIX}\N{SUPERSCRIPT SEVEN}"
    "\N{SUPERSCRIPT EIGHT}\N{SUPERSCRIPT NINE}\N{SUPERSCRIPT MINUS}",
    "0123456789-",
)
_RAISED: Final = re.compile(f"[{''.join(map(chr, _SUPERSCRIPTS))}]+")
_DELIMITERS: Final = (
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("$$", "$$"),
    ("$", "$"),
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("`", "`"),
)
_TEXT: Final = r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"

# Every rule is here because two writings of one answer differ by it.
_REPLACEMENTS: Final = (
    (re.compile(_TEXT), r"\1"),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])"), ""),
    (re.compile(r"(?<!\\)\\[!,;: ]|~"), ""),  # spaces, but not the end of a row of a matrix
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\?\$"), ""),
    (re.compile(r"(?<![0-9,;\s])\s+|(?<!\s)\s+(?![0-9\s])"), ""),  # nor 1 4/5, nor 1, 100
    (re.compile(r"\s+"), " "),
)


_UNIT: Final = re.compile(r"(?<=[0-9}]) ([a-z]{4,}(?: [a-z]{4,})*)$")
_HALF: Final = re.compile(r"(?<=[0-9])\s*([aApP])\.?\s?[mM]\.?$")


def bare(text: str) -> str:
    """Return an answer without what surrounds it, its symbols in LaTeX and its unit as text."""
    text = _RAISED.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _unended(text.translate(_SYMBOLS))
    for opening, closing in _DELIMITERS:
        if len(text) >= len(opening + closing) and text.startswith(opening):
            if text.endswith(closing):
                text = _unended(text[len(opening) : -len(closing)])
    text = text.removeprefix("=").lstrip()
    return _UNIT.sub(r" \\text{\1}", _HALF.sub(r" \\text{\1m}", text))


def _unended(text: str) -> str:
    """Return a text without its full stop, which is no ellipsis."""
    text = text.strip()
    return text if text.endswith("..") else text.removesuffix(".")


def unwrapped(text: str) -> str:
    r"""Return an answer in words as it is spoken, without `\text{}` around it."""
    return re.sub(_TEXT, r"\1", bare(text)).strip(" ().*")


def normalized(text: str) -> str:
    r"""Return the one spelling of all answers that differ only in how they are set.

    >>> normalized(r"$\dfrac{1}{2}$."), normalized(r"\left( 1, 2 \right)")
    ('\\frac{1}{2}', '(1, 2)')
    """
    text = bare(text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text.strip()


_NUMERAL: Final = re.compile(r"0*(?P<digits>[0-9A-Za-z]+)_\{?\(?(?P<base>[0-9]+)\)?\}?")


def numeral(text: str) -> tuple[str, str] | None:
    """Return the digits and the base of a normalized numeral such as 52_8, None if it is none."""
    match = _NUMERAL.fullmatch(text)
    return (match["digits"], match["base"]) if match else None


_ONLY_TEXT: Final = re.compile(rf"(?:\s|\*|[().]|{_TEXT})+")
_LETTERS: Final = re.compile(r"[^\W\d_]{2,}")


def words(text: str) -> str | None:
    r"""Return an answer in words in lower case without brackets, None if it is not in words.

    In words is what stands in `\text{}` and holds no digit, and what is two letters or more and
    nothing else.

    >>> words(r"\text{(C)}"), words("Even"), words("x"), words(r"\text{3 cm}")
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
