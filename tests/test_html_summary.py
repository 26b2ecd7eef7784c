"""The summary for notebooks: well-formed, without a script, and model text is only text."""

import math
from dataclasses import replace
from html.parser import HTMLParser

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from llmsmc import Posterior
from llmsmc.html_summary import PROMISES, foreign
from llmsmc.inference import BootstrapFilter
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
    assert "1 of 2 particles were cut off" in read(cut_off).text


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


@given(st.text(min_size=1, max_size=40))
@example("<script>alert(1)</script>")
@example("</td></table><img src=x onerror=alert(1)>")
@example('" onload="x')
@example("&lt;b&gt;")
def test_what_a_model_wrote_is_text(answer: str) -> None:
    posterior = solutions.posterior([["1"], ["2"]], [1, 2])
    named = replace(posterior, particles=Answers([answer, answer]), algorithm=answer)
    found = read(named)
    plain = replace(posterior, particles=Answers(["7", "7"]))
    assert found.elements == read(plain).elements
    for sign in "<>":
        assert named._repr_html_().count(sign) == plain._repr_html_().count(sign)
    escaped = foreign(answer)
    assert "<" not in escaped and ">" not in escaped and '"' not in escaped


class Answers:
    def __init__(self, answers: list[str]) -> None:
        self._answers = answers

    def answers(self) -> list[str]:
        return self._answers
