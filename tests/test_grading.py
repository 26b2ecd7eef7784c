"""Answers are found in text and compared without ever evaluating it."""

import threading
import time

import pytest

import llmsmc.grading as grading
from llmsmc.grading import equivalent, extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{42}", "42"),
        (r"\boxed{1} or rather \boxed{ 2 }", "2"),
        (r"\boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}} is the set", r"\{1, 2\}"),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),
        (r"\boxed{3} and then cut off: \boxed{4", "3"),
        (r"\boxed {5}", "5"),
        (r"\fbox{no} \fboxed{6}", "6"),
        ("#### 18", "18"),
        ("work\n#### 1,000 \nmore", "1,000"),
        ("#### 7\n\\boxed{8}", "8"),
        ("Question ####", None),
        ("", None),
        (r"\boxed{", None),
        (r"\boxed{a\\}", r"a\\"),
    ],
)
def test_extract_answer(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("5", "5"),
        (" 5 ", "$5$"),
        ("5.", "5"),
        ("27", "27.0"),
        ("025", "25"),
        ("1,000", "1000"),
        ("0.5", r"\frac{1}{2}"),
        (r"\dfrac{1}{2}", r"\frac12"),
        ("1/2", "0.50"),
        (r"-\frac{3}{4}", "-0.75"),
        (r"\frac{-3}{4}", "-3/4"),
        (r"10\%", "0.1"),
        ("\N{MINUS SIGN}3", "-3"),
        (r"\text{even}", "even"),
        (r"45^\circ", "45"),
        (r"\left( 1, 2 \right)", "(1,2)"),
    ],
)
def test_equivalent_without_algebra(
    answer: str, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grading, "_WORKER", None)  # these must not need it
    assert equivalent(answer, reference)
    assert equivalent(reference, answer)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("5", "6"), ("1/2", "1/3"), ("10%", "10"), ("", ""), (None, "5"), ("5", None)],
)
def test_different_without_algebra(answer: str | None, reference: str | None) -> None:
    assert not equivalent(answer, reference)


def test_equivalent_by_algebra() -> None:
    pytest.importorskip("math_verify")
    assert equivalent("x=5", "5")
    assert equivalent(r"2\sqrt{2}", r"\sqrt{8}")
    assert equivalent(r"\{1,2\}", "1,2")
    assert not equivalent(r"\sqrt{7}", r"\sqrt{8}")


def test_long_text_is_compared_as_a_string_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_WORKER", None)
    assert not equivalent("x" * 300, "y")
    assert equivalent("x" * 300, "x" * 300)


def test_equivalent_outside_the_main_thread() -> None:
    pytest.importorskip("math_verify")
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(equivalent(r"\sqrt{12}", r"2\sqrt{3}")))
    thread.start()
    thread.join()
    assert found == [True]


def test_a_slow_comparison_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    assert equivalent("y=7", "7")  # the worker is running
    monkeypatch.setattr(grading, "COMPARISON_SECONDS", 0.2)
    start = time.perf_counter()
    assert not equivalent("9^{9^{9^{9}}}", "10000000!")
    assert time.perf_counter() - start < 2.0
    monkeypatch.setattr(grading, "COMPARISON_SECONDS", 30.0)
    assert equivalent("z=8", "8")  # and a new one takes over


def test_text_is_never_evaluated(tmp_path: object) -> None:
    pytest.importorskip("math_verify")
    target = f"{tmp_path}/evidence"
    assert not equivalent(f"__import__('pathlib').Path('{target}').touch()", "1")
    assert not __import__("pathlib").Path(target).exists()
