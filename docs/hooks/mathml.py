"""Formulae as MathML: written when the site is built, so that no script and no font is loaded."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)

_RELATION = ("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
"""What the converter writes for `sim`, an identifier without space around it, and what it is."""


def on_page_content(content: str, **_: Any) -> str:
    """Replace the formulae that `arithmatex` has marked."""
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    tex = html.unescape(match["tex"]).strip()
    formula = convert(tex, display="block" if match["tag"] == "div" else "inline")
    return f'<{match["tag"]} class="formula">{formula.replace(*_RELATION)}</{match["tag"]}>'
