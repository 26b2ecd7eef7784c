"""What is shown of a run: all of it, and nothing that a model wrote as more than text."""

import io
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from llmsmc.cli import console
from llmsmc.cli.display import report
from llmsmc.cli.live import LiveView, live_view
from llmsmc.models.minimath.checker import NOTHING_STATED, Verdict
from llmsmc.results.posterior import Posterior
from llmsmc.storage.characters import printable
from tests.solutions import answering, population, posterior

NASTY = "[bold red]x[/bold red] [/nothing] \x1b]0;title\x07 \x1b[2J \u202e :smile: {0} %s"


def shown(renderable: RenderableType, **settings: object) -> str:
    stream = io.StringIO()
    options = {"force_terminal": True, "width": 100, "color_system": None} | settings
    screen = Console(file=stream, markup=False, emoji=False, highlight=False, **options)  # type: ignore[arg-type]
    screen.print(renderable)
    return stream.getvalue()


def reported(result: Posterior, **truth: object) -> str:
    return shown(report(result, algorithm="bootstrap", seed=0, loading_seconds=1.5, **truth))  # type: ignore[arg-type]


def test_the_report_says_it_all() -> None:
    text = reported(posterior(answering("7", "8", "7", None), [1, 1, 1, 1], num_cut_off=1))
    for part in (
        *(
            "bootstrap (unbiased evidence), 4 particles, seed 0",
            "50.0%",
            "25.0%",
            "no answer",
            "First step.",
        ),
        *("0.881", "in the policy", "1.00  50%", "0.50  25%", "1.50"),
        *("everything else", "Warnings", "1 of 4 particles was cut off"),
    ):
        assert part in text


def test_the_evidence_has_an_error_and_another_side_and_moves_their_rate() -> None:
    result = posterior(answering("7", "8"), [1, 3])
    result = replace(result, cost=replace(result.cost, scored_tokens=10))
    (record, *rest) = result.history
    moved = replace(record, acceptance_rate=0.25)
    text = reported(replace(result, history=(moved, *rest), metadata={"log_evidence_above": -1.25}))
    assert "from above, by conditional runs" in text and "-1.250" in text
    assert "moves accepted" in text and "25%" in text
    assert "\N{PLUS-MINUS SIGN} 0.500" in text  # weights 1 and 3: sqrt(2) / 2 over sqrt(2)
    assert "from above" not in reported(result) and "moves" not in reported(result)


def test_rare_answers_are_summed_up() -> None:
    text = reported(posterior(answering(*map(str, range(12))), [1] * 12))
    assert "4 more" in text and "33.3%" in text


def test_a_single_particle_has_no_error_to_report() -> None:
    text = reported(posterior(answering("7"), [1]))
    table = text.split("Best")[0]
    assert "1 particle," in table and "100.0%" in table and " 0.0%" not in table


@pytest.mark.parametrize(
    ("num_particles", "num_missing", "said"),
    [
        (1, 1, "1 of 1 particle has no answer: 1 ended without an answer."),
        (4, 1, "1 of 4 particles has no answer: 1 ended without an answer."),
        (4, 2, "2 of 4 particles have no answer: 2 ended without an answer."),
    ],
)
def test_missing_answers_are_counted(num_particles: int, num_missing: int, said: str) -> None:
    answers = [None] * num_missing + ["7"] * (num_particles - num_missing)
    result = posterior(answering(*answers), [1] * num_particles)
    assert said in reported(result, causes={"no_answer": num_missing})


def test_the_truth() -> None:
    result = posterior(answering("7", "8"), [3, 1])
    verdicts = [Verdict(True, ""), Verdict(False, "3 + 4 is 7, not [b]8")]
    text = reported(result, reference="8", verdicts=verdicts)
    assert "The true answer is 8. The most probable one is wrong" in text
    assert "gives the true one 25.0%" in text
    assert "wrong: 3 + 4 is 7, not [b]8" in text
    assert "Wrong in the best solution: step 2." in text
    right = reported(result, reference="7.0", verdicts=[verdicts[0]] * 2)
    assert "one is right" in right and "Every step of the best solution is right." in right


def test_solutions_that_say_nothing() -> None:
    result = posterior([["Hm."], ["Well."]], [3, 1])
    text = reported(result, reference="8", verdicts=[Verdict(True, NOTHING_STATED)])
    assert "No answer was given" in text and "states nothing that can be checked" in text


def nasty() -> Posterior:
    result = posterior(answering("7", "8"), [3, 1])
    steps = [[NASTY, rf"\boxed{{{NASTY}}}"], [NASTY]]
    return replace(result, particles=population(steps))


@pytest.mark.parametrize("what", ["report", "live"])
def test_what_a_model_wrote_is_text(what: str) -> None:
    if what == "report":
        text = reported(nasty(), reference="7")
    else:
        view = LiveView(NASTY, "bootstrap")
        view.update(nasty())
        text = shown(view)
    assert "[bold red]x[/bold red]" in text and ":smile:" in text and "{0} %s" in text
    # What is left are the styles of our own.
    for character in ("\x1b]", "\x1b[2J", "\x07", "\u202e"):
        assert character not in text


@pytest.mark.parametrize("what", ["report", "live"])
def test_line_ends_and_tabs_of_a_model(what: str) -> None:
    """No character moves the cursor, and paragraphs of all kinds are told apart."""
    steps = ["So:\r\n\r\n\tx = 1\ry = 2\x0bz\x08\r\n\r\n", "\\boxed{1\r\n2\t3}"]
    result = replace(posterior(answering("7"), [1]), particles=population([steps]))
    if what == "report":
        text = shown(report(result, algorithm="b", seed=0, loading_seconds=0.0))
        assert text.count("So:") == 1 and "     x = 1\\ry = 2\\x0bz\\x08 " in text
    else:
        view = LiveView("What\r\nis\tit?\r", "bootstrap")
        view.update(result)
        text = shown(view)
        assert "What " in text and "is  it?\\r" in text
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n")
    assert all(line.isprintable() for line in lines)


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    view = report(nasty(), algorithm="bootstrap", seed=0, loading_seconds=0.0)
    assert "\x1b[1;32m" in shown(view, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;32m" not in shown(view, color_system="standard")


def test_narrow_terminals() -> None:
    for width in (20, 40):
        assert shown(report(nasty(), algorithm="b", seed=0, loading_seconds=0.0), width=width)


def test_terminals_that_lack_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.results().print(console.foreign("é ≤"))
    sys.stdout.flush()
    assert raw.getvalue() == b"? ?\n"


def test_a_live_view_ends_without_a_trace() -> None:
    stream = io.StringIO()
    screen = Console(file=stream, force_terminal=True, width=80)
    with live_view(screen, "What is 3 + 4?", "bootstrap") as show:
        show(posterior(answering("7", None), [3, 1], num_cut_off=1))
    assert "effective sample size" in stream.getvalue()
    assert "none yet" in stream.getvalue()


def test_nobody_is_watching() -> None:
    stream = io.StringIO()
    with live_view(Console(file=stream), "What is 3 + 4?", "bootstrap") as show:
        show(posterior(answering("7"), [1]))
    assert stream.getvalue() == ""


def test_printable_keeps_what_people_write() -> None:
    text = "naïve ∑ 数学 \n\tमानक 👍🏽 a\u00a0b\u3000c é e\u0301"
    assert printable(text) == text


@pytest.mark.parametrize(
    "invisible",
    [
        *("\r", "\0", "\x07", "\x1b", "\x7f", "\x85", "\x9b", "\ud800", "\udfff"),
        *("\u061c", "\u200e", "\u200f", "\u202a", "\u202d", "\u202e", "\u2066", "\u2069"),
        *("\u00ad", "\u034f", "\u180e", "\u200b", "\u200c", "\u200d", "\u2060", "\u2063"),
        *("\ufeff", "\u2028", "\u2029", "\ufff9", "\ufffe", "\uffff", "\ue000", "\u115f"),
        *("\u3164", "\uffa0", "\ufe0f", "\u180b", "\U000e0041", "\U000e0100", "\U0001d173"),
    ],
    ids=lambda sign: f"{ord(sign):04x}",
)
def test_what_nobody_sees_is_written_out(invisible: str) -> None:
    shown = printable(f"a{invisible}b")
    assert shown == f"a{invisible.encode('unicode_escape').decode()}b"
    assert shown.isascii() and shown.isprintable() and printable(shown) == shown
