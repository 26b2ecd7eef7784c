"""A page that makes a browser load something from another server is an error."""

import logging
import re
from typing import Any

from mkdocs.structure.pages import Page

_LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'\s>]+"
    r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon)\b[^>]*\bhref=[\"']?(?:https?:)?//[^\"'\s>]+"
)
_log = logging.getLogger("mkdocs.hooks.nothing_from_elsewhere")


def on_post_page(output: str, page: Page, **_: Any) -> None:
    """Warn, which fails a strict build, of everything that is loaded from elsewhere."""
    for element in _LOADED.findall(output):
        _log.warning("%s loads from elsewhere: %s", page.file.src_uri, element)
