"""Answers as they are written: one spelling for what looks alike, and the words among them.

Nothing here computes, and every pattern reads a text in time proportional to its length.
"""

import functools
import re
import unicodedata
from typing import Final

_SYMBOLS: Final = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "\N{MIDDLE DOT}": r"\cdot ",
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
        "\N{EN DASH}": "-",
        "\N{FRACTION SLASH}": "/",
        "\N{DIVISION SLASH}": "/",
        "\N{ASTERISK OPERATOR}": "*",
        "\N{ANGLE}": r"\angle ",
        "\N{DOUBLE-STRUCK CAPITAL Z}": r"\mathbb{Z}",
        "\N{DOUBLE-STRUCK CAPITAL N}": r"\mathbb{N}",
        "\N{DOUBLE-STRUCK CAPITAL Q}": r"\mathbb{Q}",
        **{chr(0x2080 + digit): f"_{digit}" for digit in range(10)},
        **{
            unicodedata.lookup(f"GREEK SMALL LETTER {name}"): rf"\{name.lower()} "
            for name in "ALPHA BETA GAMMA DELTA EPSILON THETA MU PI RHO SIGMA PHI OMEGA".split()
        },
        "\N{GREEK SMALL LETTER LAMDA}": r"\lambda ",
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
    ("$", "$"),
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("``", "''"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"),
)
_NOT: Final = re.compile(r"\\not\s*=")
# \( \), \[ \] and dollars around formulae, but neither $5 nor \\[2pt].
_FORMULA: Final = re.compile(r"(?<!\\)\\[()\[\]]|(?<!\\)\$(?=\S)([^$]*)(?<=[^\s\\])\$(?!\d)")
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


_UNIT: Final = re.compile(r"(?<=[0-9}]) ([a-z]{4,}(?: [a-z]{4,})*|(?:sq|cu)\. ?[a-z]{1,4})$")
# 5 m, and not 5m
_METRES: Final = re.compile(r"^(-?[0-9.,]+) ([mgshlL](?:/(?:s|h|min))?)((?:\^(?:[23]|\{[23]\}))?)$")
_HALF: Final = re.compile(r"(?<=[0-9])\s*([aApP])\.?\s?[mM]\.?$")


_STYLE: Final = re.compile(
    r"(?:\\(?:boxed|fbox|math(?:bf|it|rm|sf|tt)|boldsymbol|bm|underline|emph"
    r"|text(?:bf|it|rm|sf|normal)?(?=\s*\{[^{}]*[\\$])))?\s*\{"
    r"|(?P<alone>\\displaystyle(?![a-zA-Z]))"
)
_INTRODUCTION: Final = re.compile(
    r"(?:=|\\(?:approx|Rightarrow|implies|therefore)(?![a-zA-Z])|approximately\s)\s*"
)


@functools.lru_cache(maxsize=4096)
def bare(text: str) -> str:
    """Return an answer without what surrounds it, its symbols in LaTeX and its unit as text."""
    text = _RAISED.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _NOT.sub(r"\\ne ", text.translate(_SYMBOLS))
    text = _unended(_FORMULA.sub(r"\1", text))
    while (inner := _unwrapped_once(text)) is not None:
        text = _unended(inner)
    text = _METRES.sub(r"\1 \\text{\2}\3", text)
    return _UNIT.sub(r" \\text{\1}", _HALF.sub(r" \\text{\1m}", text))


def _unwrapped_once(text: str) -> str | None:
    r"""Return a text without its outermost delimiters, style or introduction, None without any."""
    for opening, closing in _DELIMITERS:
        if len(text) >= len(opening + closing) and text.startswith(opening):
            if text.endswith(closing):
                return text[len(opening) : -len(closing)]
    style = _STYLE.match(text)
    if style and style["alone"]:
        return text[style.end() :]
    if style and _end_of_group(text, style.end()) == len(text):
        return text[style.end() : -1]
    label = LABEL.match(text)
    if label and label["colon"]:
        return text[label.end() :]
    introduction = _INTRODUCTION.match(text)
    return text[introduction.end() :] if introduction else None


def _end_of_group(text: str, start: int) -> int:
    """Return where the group ends whose content starts at a place, 0 if it is not closed."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return brace.end()
    return 0


_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)

# What stands in front of an answer, as in "The answer is 5."
LABEL: Final = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:the|my|our)\s+)?(?:(?:final|correct)\s+)?(?:answer|result)\b"
    r"(?P<colon>\s*(?::|=|is\b:?|\uff1a)|)\s*",
    re.IGNORECASE,
)


def _unended(text: str) -> str:
    """Return a text without its full stop, which is no ellipsis."""
    text = text.strip()
    return text if text.endswith("..") else text.removesuffix(".")


def spoken(text: str) -> str:
    r"""Return an answer in words as it is spoken, without `\text{}`."""
    return re.sub(_TEXT, r"\1", bare(text)).strip()


@functools.lru_cache(maxsize=4096)
def normalized(text: str) -> str:
    r"""Return the one spelling of all answers that differ only in how they are set.

    >>> normalized(r"$\dfrac{1}{2}$."), normalized(r"\left( 1, 2 \right)")
    ('\\frac{1}{2}', '(1, 2)')
    """
    text = bare(text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text.strip()


_NUMERAL: Final = re.compile(
    r"\(?0*(?P<digits>[0-9A-Za-z]+)\)?(?:_\{?\(?|\s?\(?(?:in\s?)?base\s?)(?P<base>[0-9]+)\)?\}?"
)


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
