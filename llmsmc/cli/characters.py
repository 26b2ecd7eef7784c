"""What others wrote may contain characters that move cursors, ring bells or reverse lines."""

import unicodedata
from typing import Final

_KEPT: Final = frozenset("\n\t")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
# Control characters, surrogates, separators of lines and of paragraphs.
_UNPRINTABLE: Final = frozenset(["Cc", "Cs", "Zl", "Zp"])
# What embeds, overrides or isolates a direction of writing.
_DIRECTIONS: Final = frozenset(["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"])


def printable(text: str) -> str:
    r"""Return the text with what is not printed made visible; line breaks and tabs stay.

    >>> printable("a\x1b[31mb")
    'a\ufffd[31mb'
    """
    return "".join(_REPLACEMENT if _is_active(character) else character for character in text)


def _is_active(character: str) -> bool:
    if character.isprintable() or character in _KEPT:
        return False
    return (
        unicodedata.category(character) in _UNPRINTABLE
        or unicodedata.bidirectional(character) in _DIRECTIONS
    )
