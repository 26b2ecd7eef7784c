"""The summary for notebooks: well-formed, without a script, and model text is only text."""

import math
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsmc import Posterior
from llmsmc.inference import BootstrapFilter
from llmsmc.results.notebook import _STYLE, PROMISES
from llmsmc.storage.characters import printable
from tests import solutions
from tests.solutions import answering
from tests.toys import WALK_OBSERVATIONS, walk

ELEMENTS = set(
    "div style header b span dl dt dd figure svg title path polyline circle figcaption table thead "
    "tbody tr th td small ul li p".split()
)
VOID = {"path", "polyline", "circle"}


class Reader(HTMLParser):
    """Collects the elements and the text, and insists that all elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS, tag
        assert not any(name.startswith("on") for name, _ in attrs)
        self.elements.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += "" if self.open[-1:] == ["style"] else f"{data}|"


def read(posterior: Posterior) -> Reader:
    reader = Reader()
    reader.feed(posterior._repr_html_())
    reader.close()
    assert reader.open == []
    return reader


def test_a_run_on_numbers() -> None:
    posterior = BootstrapFilter(30).run(walk(), WALK_OBSERVATIONS, seed=0)
    found = read(posterior)
    mean = f"{float(posterior.mean(lambda x: x[:, 0])):,.3f}".replace("-", "\N{MINUS SIGN}")
    error = math.sqrt(posterior.log_evidence_variance)
    assert f"x[0]|{mean}|" in found.text
    assert f"± {error:.3f}|" in found.text
    assert "BootstrapFilter|" in found.text and PROMISES["unbiased evidence"] in found.text
    assert "resampled" in found.text
    assert "tokens" not in found.text


def test_a_run_on_text() -> None:
    found = read(solutions.posterior(answering("7", "8", "7", None), [1, 2000, 2000, 1]))
    assert "7|50.0%|" in found.text and "no answer|<0.1%|" in found.text
    assert "tokens" not in found.text  # of a run without calls of a model


def test_warnings_are_shown() -> None:
    cut_off = solutions.posterior(answering("7", "8"), [1, 2], num_cut_off=1)
    assert "1 of 2 particles was cut off" in read(cut_off).text


def test_the_dead() -> None:
    assert "All particles have weight zero" in read(solutions.posterior(answering("7"), [0])).text


def test_many_answers_and_many_components() -> None:
    found = read(solutions.posterior(answering(*"0123456789"), range(1, 11)))
    assert "2 more|" in found.text and found.elements.count("tr") == 1 + 8 + 1
    wide = replace(
        BootstrapFilter(5).run(walk(), WALK_OBSERVATIONS, seed=0),
        particles={"b": torch.ones(5, dtype=torch.bool), "a": torch.zeros(5, 3, 100)},
    )
    text = read(wide).text
    assert "b|1.000|0.000|" in text and "a[0, 10]|" in text and "a[0, 11]|" not in text
    assert "and more components" in text


def test_states_that_are_no_numbers() -> None:
    class Words:
        def __len__(self) -> int:
            return 5

    posterior = BootstrapFilter(5).run(walk(), WALK_OBSERVATIONS, seed=0)
    assert "5 × Words" in read(replace(posterior, particles=Words())).text


HOSTILE = (
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    '" onload="x',
    "' style='x:expression(1)",
    "&lt;b&gt;",
    "<!-- ",
    "]]>",
    "<![CDATA[",
    "</style><script>",
    "</title></svg>",
    "<a href=javascript:alert(1)>",
    "\x1b[2J\x07\x00\x9b",
    "\u202egnp.exe",
    "a\u200bb\u2060c\ufeff\u00ad",
    "\U000e0041\U000e0100\ufe0f",
    "\ud800",
    "\uffff\ufdd0",
    "x" * 10_000,
)
ANY_TEXT = st.text(min_size=1, max_size=40) | st.sampled_from(HOSTILE)


@settings(max_examples=25)
@given(ANY_TEXT)
def test_what_others_wrote_is_text_in_every_field(text: str) -> None:
    check_every_field(text)


def check_every_field(text: str) -> None:
    for field, (harmless, signs) in harmless_pages().items():
        made = with_text(field, text)
        assert read(made).elements == harmless, field
        shown = made._repr_html_().replace(_STYLE, "")
        assert shown.isprintable() and printable(shown) == shown, field
        assert shown.count("<") == signs, field


@cache
def harmless_pages() -> dict[str, tuple[list[str], int]]:
    """Return the elements of a page, and how many signs begin them, for each field with text."""
    pages = {}
    for field in ("algorithm", "guarantee", "seed", "answer", "component", "class"):
        posterior = with_text(field, "7")
        pages[field] = read(posterior).elements, posterior._repr_html_().count("<")
    return pages


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_in_every_field(text: str) -> None:
    check_every_field(text)


def with_text(field: str, text: str) -> Posterior:
    """Return a posterior in which a text stands where it is shown."""
    particles: Any = Answers([text, text])
    if field == "component":
        particles = {text: torch.ones(2), "a": {text: torch.zeros(2, 2)}}
    elif field == "class":
        particles = type(text.replace("\0", "").encode("utf-8", "replace").decode(), (), {})()
    made = replace(solutions.posterior([["1"], ["2"]], [1, 2]), particles=particles)
    if field in ("algorithm", "guarantee", "seed"):  # whatever their types
        object.__setattr__(made, field, text)
    return made


def test_what_nobody_sees_is_written_out() -> None:
    text = read(with_text("answer", "1\u202e2\u200b3\x1b4")).text
    assert r"1\u202e2\u200b3\x1b4|" in text
    assert "seed|&lt;b&gt;|" in with_text("seed", "<b>")._repr_html_().replace(
        "</dt><dd>", "|"
    ).replace("</dd>", "|")


class Answers:
    def __init__(self, answers: list[str]) -> None:
        self._answers = answers

    def answers(self) -> list[str]:
        return self._answers
