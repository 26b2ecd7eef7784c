"""A page that loads something from another server, or links to a script, is an error."""

import logging
import re
import unicodedata
from html.parser import HTMLParser
from typing import Any

from mkdocs.structure.pages import Page

_LOADING = ("src", "srcset", "poster", "data", "background")
_SHEETS = ("stylesheet", "preconnect", "preload", "prefetch", "modulepreload", "icon", "manifest")
_ELSEWHERE = re.compile(r"(?i)\s*(?:[a-z][a-z0-9+.-]*:)?//")
_SCRIPT = re.compile(r"(?i)(?:javascript|vbscript|data):")
_DRAWN = ("image", "use", "feimage")
_SPACES = {"U+0009", "U+000A", "U+000D"}
_log = logging.getLogger("mkdocs.hooks.nothing_from_elsewhere")


def on_post_page(output: str, page: Page, **_: Any) -> None:
    """Warn, which fails a strict build, of everything that is loaded from elsewhere."""
    for finding in findings(output):
        _log.warning("%s: %s", page.file.src_uri, finding)


def findings(output: str) -> list[str]:
    """Return what a page must not have."""
    reader = _Reader()
    reader.feed(output)
    reader.close()
    control = {f"U+{ord(c):04X}" for c in output if unicodedata.category(c) == "Cc"} - _SPACES
    return reader.found + [f"has the control character {c}" for c in sorted(control)]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at what an element loads, and where it leads."""
        values = {name: value or "" for name, value in attrs}
        sheet = tag == "link" and values.get("rel", "").lower() in _SHEETS
        for name, value in values.items():
            loads = name in _LOADING or (name.endswith("href") and (sheet or tag in _DRAWN))
            if loads and _ELSEWHERE.match(value):
                self.found.append(f"loads from elsewhere: <{tag} {name}={value}>")
            if name.endswith("href") or name in ("action", "formaction", *_LOADING):
                scheme = re.sub(r"[\x00-\x20]", "", value)
                if _SCRIPT.match(scheme):
                    self.found.append(f"has a link that runs something: <{tag} {name}={value}>")
