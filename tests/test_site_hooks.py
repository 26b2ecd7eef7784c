"""What the hooks of the site find on a page."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def findings() -> Any:
    path = Path(__file__).resolve().parent.parent / "docs/hooks/nothing_from_elsewhere.py"
    spec = importlib.util.spec_from_file_location("nothing_from_elsewhere", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.findings


@pytest.mark.parametrize(
    "page",
    [
        '<img src="https://example.org/x.png">',
        "<img src=//example.org/x.png>",
        '<img alt="a > b" src="HTTP://example.org/x.png">',
        '<img srcset="https://example.org/x.png 2x">',
        '<script src="//example.org/x.js"></script>',
        '<iframe src="https://example.org"></iframe>',
        '<video poster="https://example.org/x.png"></video>',
        '<object data="https://example.org/x.svg"></object>',
        '<link rel="stylesheet" href="https://example.org/x.css">',
        '<link href="https://example.org/x.css" rel="StyleSheet">',
        '<svg><image xlink:href="https://example.org/x.png"/></svg>',
        '<svg><use href="//example.org/x.svg#a"/></svg>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href="JavaScript:alert(1)">x</a>',
        '<a href=" java\nscript:alert(1)">x</a>',
        '<a href="&#106;avascript:alert(1)">x</a>',
        '<a href="data:text/html,x">x</a>',
        '<a href="vbscript:x">x</a>',
        '<form action="javascript:x"></form>',
        "a\x1b[2Jb",
        "a\x00b",
        "a\x9bb",
    ],
)
def test_what_no_page_has(findings: Any, page: str) -> None:
    assert len(findings(f"<p>{page}</p>")) == 1


@pytest.mark.parametrize(
    "page",
    [
        '<img src="figure.svg"><img src="../assets/x.png">',
        '<a href="https://example.org/">x</a><a href="mailto:a@example.org">x</a>',
        '<a href="#javascript">javascript: is no link here</a>',
        '<link rel="canonical" href="https://example.org/">',
        '<script src="assets/x.js"></script>\n\t\r\n',
        "é \u202f ∑",
    ],
)
def test_what_pages_have(findings: Any, page: str) -> None:
    assert findings(page) == []
