"""Formulae as MathML: written when the site is built, so that no script and no font is loaded."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)

_MENDED = {
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",  # sim is a relation, with space around it
    "<mi>log</mi><m": '<mi>log</mi><mspace width="0.17em"/><m',
    '<mspace width="0.17em"/><mo stretchy="false">&#x00028;': '<mo stretchy="false">&#x00028;',
}
"""What the converter writes, and what is meant."""


def on_page_content(content: str, **_: Any) -> str:
    """Replace the formulae that `arithmatex` has marked."""
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    tex = html.unescape(match["tex"]).strip()
    formula = convert(tex, display="block" if match["tag"] == "div" else "inline")
    for written, meant in _MENDED.items():
        formula = formula.replace(written, meant)
    return f'<{match["tag"]} class="formula">{formula}</{match["tag"]}>'
