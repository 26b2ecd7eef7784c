"""Keys of servers: checked when they are given, sent to one address, shown nowhere.

What a server says may have its key in it, as it was sent or written otherwise: escaped for JSON,
an address or a page, in base64, or cut off somewhere. All of these are hidden, before anything else
is done with a text.
"""

import base64
import html
import logging
import re
from typing import Any, Final, NoReturn

from llmsmc.errors import InputError

HIDDEN: Final = "***"
PLACEHOLDER: Final = 3  # characters of what is no secret, such as "x" where a server wants any key
LONGEST: Final = 8192
CUT: Final = 6  # characters by which the beginning of a key is known
PIECE: Final = 8  # characters by which any other piece of it is
_LOGGERS: Final = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)
_GOES_ON: Final = re.compile(r"$|…|\.\.|\*")
_BLANKS: Final = re.compile(r"^[\s\0\ufeff\u200b]+|[\s\0\ufeff\u200b]+$")


class Key:
    """The key of one server."""

    def __init__(self, text: object) -> None:
        """Take a key; what is blank around it, as at the end of a line, is no part of it.

        Raises:
            InputError: it cannot be sent, which is said without showing it.
        """
        self._text = checked_key(text)
        self._folded = _folded(self._text)
        is_secret = len(self._text) > PLACEHOLDER
        self._forms = [self._folded, *map(_folded, _encoded(self._text))] if is_secret else []
        self._escaped = re.compile("".join(map(_written, self._text)), re.IGNORECASE)

    def __repr__(self) -> str:
        """Show that there is one."""
        return f"Key({HIDDEN})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("A key is not written anywhere, and so is not pickled.")

    def header(self) -> dict[str, str]:
        """Return the header in which it is sent."""
        return {"Authorization": f"Bearer {self._text}"}

    def hide(self, text: str) -> str:
        """Return the text without the key, nor what a server has left of it in cutting it up.

        That is its beginning of `CUT` characters or more, and any other piece of at least `PIECE`.
        """
        return self._hide(text, CUT, PIECE)

    def hide_in(self, value: Any) -> Any:
        """Return an answer in JSON with the key hidden in all its texts.

        They may be solutions, in which a word of the key is left alone: what is hidden is half of
        the key or more, and its beginning where a text ends with it or goes on with dots. The names
        of fields are left alone, too.
        """
        if isinstance(value, str):
            half = max(PIECE, len(self._text) // 2)
            return self._hide(value, half, half)
        if isinstance(value, list):
            return [self.hide_in(child) for child in value]
        if isinstance(value, dict):
            return {name: self.hide_in(child) for name, child in value.items()}
        return value

    def _hide(self, text: str, beginning: int, piece: int) -> str:
        if not self._forms or len(text) < min(len(self._text), CUT):
            return text
        folded = _folded(text)
        for form in self._forms:
            if form in folded:
                text = re.sub(re.escape(form), HIDDEN, text, flags=re.IGNORECASE)
        if any(sign in text for sign in "\\%&"):
            text = self._escaped.sub(HIDDEN, text)
        parts, end = [], 0
        for start, stop in self._pieces(text, beginning, piece):
            if stop > end:
                parts += [text[end:start], HIDDEN]
                end = stop
        return "".join([*parts, text[end:]])

    def _pieces(self, text: str, beginning: int, piece: int) -> list[tuple[int, int]]:
        """Return where pieces of the key begin and end in a text.

        Any of `piece` characters has one of the blocks in it into which the key is cut here.
        """
        key, folded, size = self._folded, _folded(text), piece // 2
        found = list[tuple[int, int]]()
        blocks = [(at, key[at : at + size]) for at in range(size, len(key) - size + 1, size)]
        for first, block in [(0, key[:CUT]), *blocks]:
            end = 0
            while (start := folded.find(block, end)) >= 0:
                left, right, end = first, first + len(block), start + len(block)
                while left and start and folded[start - 1] == key[left - 1]:
                    left, start = left - 1, start - 1
                while folded[end : end + 1] == key[right : right + 1] != "":
                    right, end = right + 1, end + 1
                is_long = right - left >= (piece if left else beginning)
                if is_long or (left == 0 and _GOES_ON.match(text, end)):
                    found.append((start, end))
        return sorted(found)


class HidingFilter(logging.Filter):
    """Hides a key in what the libraries of HTTP log, such as the headers of answers."""

    def __init__(self, key: Key) -> None:
        """Hide this key."""
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without the key."""
        record.msg, record.args = self._key.hide(record.getMessage()), ()
        return True

    def add(self) -> None:
        """Begin to hide it."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        """Stop hiding it."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)


def checked_key(text: object) -> str:
    """Return a key without what is blank around it.

    Raises:
        InputError: it cannot be sent, which is said without showing it.
    """
    if not isinstance(text, str):
        raise InputError(
            f"A key is a text. Got one of the type {type(text).__name__}; accepted: a string."
        )
    text = _BLANKS.sub("", text)
    wrong = next((place for place, each in enumerate(text, 1) if not "!" <= each <= "~"), None)
    if wrong is None and 0 < len(text) <= LONGEST:
        return text
    got = f"{len(text)} characters"
    if wrong is not None:
        each = text[wrong - 1]
        kind = "a space" if each == " " else "beyond ASCII" if each > "~" else "a control character"
        got += f", of which number {wrong} is {kind}"
    raise InputError(
        f"A key is sent in a header, which takes letters, digits and signs of ASCII. Got {got}; "
        f"accepted: the key alone, 1 to {LONGEST} such characters without spaces."
    )


def _written(character: str) -> str:
    """Return the pattern of a character as it is, or escaped for JSON, an address or a page.

    It may be escaped more than once, but not without end: a server could write nothing but
    backslashes, for each of which all that follow would be read.
    """
    number = ord(character)
    forms = [
        rf"\\{{0,16}}(?:{re.escape(character)}|u00{number:02x}|x{number:02x}|{number:03o})",
        f"%(?:25){{0,4}}{number:02x}",
        f"&(?:amp;){{0,4}}#(?:0{{0,6}}{number}|x0{{0,6}}{number:x});",
    ]
    if html.escape(character) != character:
        forms.append(re.escape(html.escape(character)))
    return f"(?:{'|'.join(forms)})"


def _encoded(text: str) -> set[str]:
    """Return what is the same of a key in hexadecimal, and in base64 whatever stands around it."""
    found = {text.encode().hex()}
    for before in range(3):
        whole = b"?" * before + text.encode()
        start, stop = (8 * before + 5) // 6, 8 * (before + len(text)) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(whole).decode()[start:stop])
    return found


def _folded(text: str) -> str:
    """Return a text of the same length in which case does not count."""
    return text.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i").lower()
