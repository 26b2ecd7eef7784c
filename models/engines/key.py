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
CUT: Final = 6  # characters by which a key is known that was cut off behind them
_LOGGERS: Final = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)
_BLANKS: Final = re.compile(r"^[\s\0\ufeff\u200b]+|[\s\0\ufeff\u200b]+$")


class Key:
    """The key of one server."""

    def __init__(self, text: object) -> None:
        """Take a key; what is blank around it, as at the end of a line, is no part of it.

        Raises:
            InputError: it cannot be sent, which is said without showing it.
        """
        self._text = checked_key(text)
        plain = {self._text, *_encoded(self._text)} if len(self._text) > PLACEHOLDER else set()
        self._plain = [form.lower() for form in plain]
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

    def hide(self, text: str, shortest: int = CUT) -> str:
        """Return the text without the key, nor its beginnings of at least so many characters.

        Shorter ones are hidden where the text ends with them, or goes on with dots: a key that was
        cut off.
        """
        if not self._plain:
            return text
        for form in self._plain:
            if form in text.lower():
                text = re.sub(re.escape(form), HIDDEN, text, flags=re.IGNORECASE)
        if any(sign in text for sign in "\\%&"):
            text = self._escaped.sub(HIDDEN, text)
        return self._hide_cut(text, shortest)

    def hide_in(self, value: Any) -> Any:
        """Return an answer in JSON with the key hidden in all its texts.

        They may be solutions, in which a word with which the key begins is left alone; and so are
        the names of fields.
        """
        if isinstance(value, str):
            return self.hide(value, max(CUT + 2, len(self._text) // 2))
        if isinstance(value, list):
            return [self.hide_in(child) for child in value]
        if isinstance(value, dict):
            return {name: self.hide_in(child) for name, child in value.items()}
        return value

    def _hide_cut(self, text: str, shortest: int) -> str:
        start = 0
        while (start := text.find(self._text[:CUT], start)) >= 0:
            stop = start + CUT
            while text[stop : stop + 1] == self._text[stop - start : stop - start + 1] != "":
                stop += 1
            if stop - start >= shortest or re.match(r"$|…|\.\.|\*", text[stop : stop + 2]):
                text = text[:start] + HIDDEN + text[stop:]
            start += 1
        return text


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
    """Return the pattern of a character as it is, or escaped for JSON, an address or a page."""
    number = ord(character)
    forms = [
        rf"\\*(?:{re.escape(character)}|u00{number:02x}|x{number:02x})",
        f"%(?:25)*{number:02x}",
        f"&(?:amp;)*#(?:0*{number}|x0*{number:x});",
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
