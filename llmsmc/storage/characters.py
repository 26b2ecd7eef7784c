"""Texts of others may contain characters that nobody sees, or that a terminal acts upon."""

import re
import unicodedata
from typing import Final

# Of what Unicode has displays ignore (Default_Ignorable_Code_Point), the part that Python holds to
# be printable: joiners, fillers and selectors of variants.
_IGNORED: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
_KEPT: Final = frozenset("\n\t")
_ESCAPES: Final = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})


def printable(text: str) -> str:
    r"""Return the text with everything invisible written out, as in a string of Python.

    Invisible are control characters, characters that turn the direction of writing or have no
    width, characters that displays ignore, line separators, surrogates and unassigned characters.
    Spaces, line breaks and tabs stay; a carriage return with a line feed is a line break.

    >>> printable("a\x1b[31m, \u202eb\r\n")
    'a\\x1b[31m, \\u202eb\n'
    """
    if text.isprintable() and not _IGNORED.search(text):
        return text
    text = text.replace("\r\n", "\n")
    return "".join(c if _is_seen(c) else c.encode("unicode_escape").decode() for c in text)


def escaped(text: str) -> str:
    r"""Return the text on a single line, line breaks and tabs written out like the rest.

    >>> escaped("So:\r\n\tx \\neq 1\x07")
    'So:\\r\\n\\tx \\neq 1\\x07'
    """
    return printable(text.translate(_ESCAPES))


def one_line(text: str, length: int | None = None) -> str:
    """Return the text on a single line, everything in it visible, and cut to a length."""
    line = " ".join(printable(text).split())
    return line if length is None or len(line) <= length else f"{line[: length - 1]}…"


def _is_seen(character: str) -> bool:
    if character.isprintable():
        return not _IGNORED.match(character)
    return character in _KEPT or unicodedata.category(character) == "Zs"
