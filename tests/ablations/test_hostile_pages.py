"""What plans and models wrote is text on a page: no link, no image, no script, nothing unseen."""

import copy
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
from llmsmc.storage.characters import printable
from tests.ablations.test_hostile_plans import MORE
from tests.ablations.test_plan import PLAN
from tests.evaluation.test_result_lines import GOOD

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


@cache
def harmless() -> Any:
    """Return a report of two cells, in which a run of each has failed."""
    plan = read_plan("p", PLAN + MORE)
    cells = [make_cell({"series": s, "algorithm": "bootstrap", "particles": 2}) for s in "ab"]
    runs = {("a/1", 0): GOOD, ("a/2", 0): GOOD | {"error": "E: x"}}
    rows = [Row(cell, runs, name) for cell, name in zip(cells, "ab", strict=True)]
    return report(plan, rows, ["a/1", "a/2"], "llmsmc ablate p")


def made(text: str) -> Any:
    """Return a report with a text wherever text of others stands."""
    found = copy.deepcopy(harmless())
    for key in ("title", "figure", "claim", "caution", "dataset", "command"):
        found[key] = text
    for cell in found["cells"]:
        cell["label"] = text
    for compared in found["comparisons"]:
        pair: dict[str, Any] = {"left": text, "right": text, "tokens": None, "verdict": text}
        pair |= {"difference": 0.0, "low": 0.0, "high": 0.0}
        compared |= {"claim": text, "published": text, "verdict": text, "pairs": [pair, pair]}
    found["published"] = {"caption": text, "columns": [text, text], "rows": [[text, text]]}
    for failure in found["failures"]:
        failure |= {"cell": text, "id": text, "error": text}
    found["versions"] = {"llmsmc": text}
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


def pages(text: str) -> list[str]:
    found = made(text)
    return [page_text(found, "p"), index_of({"p": found}), summary_of({"p": found}, "docs")]


@cache
def of_a_word(shown: Any) -> list[list[tuple[str, ...]]]:
    return [Tree(shown(page)).elements for page in pages("text")]


def check(text: str) -> None:
    written = pages(text)
    for page in written:
        assert page.replace("\n", " ").isprintable()
        assert printable(page) == page
    for shown in (on_github, on_the_site):
        for page, expected in zip(written, of_a_word(shown), strict=True):
            found = Tree(shown(page)).elements
            assert [each[0] for each in found] == [each[0] for each in expected], page
            for one, other in zip(found, expected, strict=True):
                # A picture is described by the title.
                assert [w for w in one if not w.startswith("alt=")] == [
                    w for w in other if not w.startswith("alt=")
                ]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_text(text: str) -> None:
    check(text)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from([*HOSTILE, *"[](){}<>`*_#!|\\:=-+~$&\n \t"]) | st.text(max_size=5))
    .map("".join)
    .filter(str.strip)
)
def test_any_text_is_text(text: str) -> None:
    check(text)


def test_texts_are_shown_as_they_are() -> None:
    text = "1. [x](javascript:y) <b> & `a_b` *c* 0.5 | \u202e - # $z$"
    for shown in (on_github, on_the_site):
        page = Tree(shown(page_text(made(text), "p"))).text
        assert page.count("1. [x](javascript:y) <b> & a_b *c* 0.5 | \\u202e - # $z$") > 15


def test_figures_of_hostile_texts(tmp_path: Path) -> None:
    text = "$\\frac{$ a$b \0\x1b\u202e <script> ]]> --> <script>"
    found = made(text)
    for cell in found["cells"]:
        cell["values"] |= {"series": text, "policy": text}
    found["plot"] = {"rows": "policy"}
    drawing.save(found, tmp_path / "p.svg")
    assert "<script" not in (tmp_path / "p.svg").read_text().lower()


def test_pages_of_hostile_names(tmp_path: Path) -> None:
    path = tmp_path / "x](javascript:alert(1)) [.md"
    write_page(made("T"), path)
    index = on_github((tmp_path / "index.md").read_text())
    assert "x%5D%28javascript%3Aalert%281%29%29%20%5B.md" in html.unescape(index)


@pytest.mark.parametrize(
    "text",
    ["http://e.org/x", "see HTTPS://e.org", "ftp://e.org", "www.e.org", "WWW.e.org", "a@b.org"],
)
def test_addresses_are_no_links(text: str) -> None:
    """Programs that make links of what looks like an address find none; readers see it."""
    page = index_of({"p": made(text)})
    assert text not in page
    assert text in Tree(on_github(page)).text
