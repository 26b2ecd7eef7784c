"""The forms in which answers are looked for, by name; a module that imports nothing heavy.

They are described, and read, in `llmsmc.grading.extraction`.
"""

from collections.abc import Iterable
from typing import Final

from llmsmc.errors import InputError

BOXED: Final = "boxed"
HASHES: Final = "hashes"
PHRASE: Final = "phrase"
LAST_NUMBER: Final = "last-number"
NAMES: Final = (BOXED, HASHES, PHRASE, LAST_NUMBER)


def answer_forms(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return the forms in a text with commas, or in a sequence, in their order.

    >>> answer_forms("boxed, phrase")
    ('boxed', 'phrase')

    Raises:
        InputError: there is none, or one is unknown or stands there twice.
    """
    parts = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    try:
        forms = tuple(parts)
        usable = len(forms) > 0 and len(set(forms)) == len(forms) and set(forms) <= set(NAMES)
    except TypeError:
        usable = False
    if not usable:
        raise InputError(
            f"Answers are looked for in forms by name, each once. Got {given!r}; accepted: one or "
            f"several of {', '.join(NAMES)}, the preferred one first."
        )
    return forms
