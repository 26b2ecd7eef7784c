"""What plans and models wrote is text on a page: no link, no image, no script, nothing unseen."""

import html
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmsmc.ablations import drawing
from llmsmc.ablations.cell import make_cell
from llmsmc.ablations.comparing import Row
from llmsmc.ablations.page import index_of, page_text, summary_of, write_page
from llmsmc.ablations.reading import read_plan
from llmsmc.ablations.report import report
from llmsmc.characters import printable
from tests.ablations.test_hostile_plans import MORE
from tests.ablations.test_plan import PLAN
from tests.test_result_lines import GOOD

FIELDS = (
    *("title", "figure", "claim", "caution", "compared", "paper", "caption", "column", "entry"),
    *("dataset", "command", "label", "id", "error", "verdict", "version"),
)
HOSTILE = (
    "[x](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "[x]: javascript:alert(1)",
    "[x][y] and [y]",
    "<javascript:alert(1)> <http://example.org>",
    "<script>alert(1)</script>",
    "<img src=http://example.org/x.png onerror=alert(1)>",
    "<a href='data:text/html,x'>x</a>",
    "&#106;avascript:alert(1) &lt;b&gt;",
    "x\n\n# A heading\n\n- a list\n\n> a quotation\n\n    code",
    "x\n===\ny\n---\n",
    "1. one\n2. two",
    "+ one\n* two\n- three",
    "``` html\n<script>\n```",
    "~~~\nx\n~~~",
    "`code` and ``more ` code`` and ` open",
    "a ``` b\n````",
    "`a|b` | c | d",
    "| a | b |\n| --- | --- |\n| 1 | 2 |",
    "x {: onclick=alert(1) }",
    "# x {: #y .z onclick=alert(1) }",
    "`x`{: onclick=alert(1) }",
    '!!! note "x"\n    y',
    "??? note\n    y",
    "$\\href{javascript:alert(1)}{x}$ and \\(x\\) and $$\n\\text{<b>}\n$$",
    "*a* _b_ **c** ~~d~~ ^^e^^ ==f==",
    "\\[x\\](javascript:alert(1)) \\`x\\`",
    "[^1] and x[^1]\n\n[^1]: note",
    "*[HTML]: x\nHTML",
    ":smile: @mention #1",
    "<!-- x",
    "a\x1b[2J\x00\x07\x9b\u202eb\u200b\ufeff\U000e0041\u2028c",
    "</code></pre></td></table>",
    "--8<-- '/etc/passwd'",
    "{{ x }} {% raw %}",
    "a\\",
    "|",
    "---",
)


def made(field: str, text: str) -> dict[str, Any]:
    """Return a report with a text in one of the places where text of others stands."""
    plan = read_plan("p", PLAN + MORE)
    cells = [make_cell({"series": s, "algorithm": "bootstrap", "particles": 2}) for s in "ab"]
    failed = GOOD | {"error": "E: x"}
    names = ["a", text if field == "label" else "b"]
    rows = [
        Row(cell, {("a/1", 0): GOOD, ("a/2", 0): failed}, name)
        for cell, name in zip(cells, names, strict=True)
    ]
    found = report(plan, rows, ["a/1", "a/2"], "llmsmc ablate p")
    texts = {"title": "T", "figure": "F", "claim": "C", "caution": "D"}
    found |= texts | {key: text for key in texts if key == field}
    for key, place in (("dataset", "dataset"), ("command", "command")):
        found |= {key: text} if field == place else {}
    compared = found["comparisons"][0]
    changes = {"claim": "compared", "published": "paper", "verdict": "verdict"}
    compared |= {key: text for key, place in changes.items() if place == field}
    compared["pairs"] = [
        {"left": name, "right": "b", "tokens": None, "verdict": "holds"}
        | {key: 0.0 for key in ("difference", "low", "high")}
        for name in names
    ]
    found["published"] = {
        "caption": text if field == "caption" else "c",
        "columns": ["a", text if field == "column" else "b"],
        "rows": [["x", text if field == "entry" else "y"]],
    }
    for failure in found["failures"]:
        failure |= {key: text for key in ("id", "error") if key == field}
    found["versions"] = {"llmsmc": text if field == "version" else "1"}
    return found


class Tree(HTMLParser):
    """The elements, with what they lead to or load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = [f"{name}={value}" for name, value in attrs if name != "id"]
        if tag not in ("p", "code", "br", "em", "span"):
            self.elements.append((tag, *kept))
        else:
            assert not kept or kept[0].startswith("class="), (tag, kept)

    def handle_data(self, data: str) -> None:
        self.text += data


def on_github(text: str) -> str:
    """Return a page as a program of the CommonMark kind shows it, with everything allowed."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return str(parser.render(text))


def on_the_site(text: str) -> str:
    """Return a page as the site has it."""
    markdown = pytest.importorskip("markdown")
    pytest.importorskip("pymdownx")
    return str(
        markdown.markdown(
            text,
            extensions=[
                *("admonition", "tables", "attr_list", "toc"),
                *("pymdownx.arithmatex", "pymdownx.highlight", "pymdownx.superfences"),
            ],
            extension_configs={
                "pymdownx.arithmatex": {"generic": True},
                "pymdownx.highlight": {"use_pygments": False},
            },
        )
    )


def pages(field: str, text: str) -> list[str]:
    found = made(field, text)
    return [page_text(found, "p"), index_of({"p": found}), summary_of({"p": found}, "docs")]


@cache
def harmless(field: str, shown: Any) -> list[list[tuple[str, ...]]]:
    return [Tree(shown(page)).elements for page in pages(field, "text")]


def check(field: str, text: str) -> None:
    for shown in (on_github, on_the_site):
        for page, tree in zip(pages(field, text), harmless(field, shown), strict=True):
            visible = page.replace("\n", " ")
            assert visible.isprintable() and printable(visible) == visible
            found = Tree(shown(page))
            kept = [each for each in found.elements if each not in (("pre",), ("hr",))]
            expected = [each for each in tree if each not in (("pre",), ("hr",))]
            # A picture is described by the title.
            assert [each[0] for each in kept] == [each[0] for each in expected], (field, page)
            for one, other in zip(kept, expected, strict=True):
                links = [word for word in one if word.startswith(("href=", "src="))]
                assert links == [word for word in other if word.startswith(("href=", "src="))]
                assert not any(word.startswith(("on", "style=b")) for word in one[1:])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_text(text: str) -> None:
    for field in FIELDS:
        check(field, text)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(FIELDS),
    st.lists(st.sampled_from([*HOSTILE, *"[](){}<>`*_#!|\\:=-+~$&\n \t"]) | st.text(max_size=5))
    .map("".join)
    .filter(str.strip),
)
def test_any_text_is_text(field: str, text: str) -> None:
    check(field, text)


def test_texts_are_shown_as_they_are() -> None:
    text = "1. [x](javascript:y) <b> & `a_b` *c* 0.5 | \u202e - # $z$"
    for shown in (on_github, on_the_site):
        page = Tree(shown(page_text(made("caution", text), "p")))
        assert "1. [x](javascript:y) <b> & a_b *c* 0.5 | \\u202e - # $z$" in page.text
        page = Tree(shown(page_text(made("error", text), "p")))
        assert "1. [x](javascript:y) <b> & a_b *c* 0.5 | \\u202e - # $z$" in page.text


def test_figures_of_hostile_texts(tmp_path: Path) -> None:
    for text in ("$\\frac{$", "a$b", "\x00\x1b\u202e", "<script>", "]]>", "--> <script>"):
        found = made("label", text)
        for cell in found["cells"]:
            cell["values"] |= {"series": text, "policy": text}
        found["plot"] = {"rows": "policy"}
        drawing.save(found, tmp_path / "p.svg")
        assert "<script" not in (tmp_path / "p.svg").read_text().lower()


def test_pages_of_hostile_names(tmp_path: Path) -> None:
    path = tmp_path / "x](javascript:alert(1)) [.md"
    write_page(made("title", "T"), path)
    index = on_github((tmp_path / "index.md").read_text())
    assert "x%5D%28javascript%3Aalert%281%29%29%20%5B.md" in html.unescape(index)
