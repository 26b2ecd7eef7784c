"""Hostile strings are graded without a hang, a crash, or an evaluation of anything.

The suite takes 40 of the random ones; `LLMSMC_HOSTILE_STRINGS=10000` takes as many as it says.
"""

import os
import time
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.hostile_strings import FRAGMENTS, fixed
from llmsmc.core.worker_pool import MAX_WAITING, START_UP_SECONDS
from llmsmc.grading import grades as grading
from llmsmc.grading.grades import equivalence_classes, extract_answer, grade

COUNT = int(os.environ.get("LLMSMC_HOSTILE_STRINGS", "40"))
LONGEST = grading.MAX_SECONDS * MAX_WAITING + 2 * START_UP_SECONDS  # on a machine that is busy

pytest.importorskip("math_verify")


def survives(text: str, reference: str = r"\frac{\sqrt{3}}{2}") -> None:
    start = time.perf_counter()
    for answer in {text, extract_answer(text), extract_answer(rf"So \boxed{{{text}}}.")}:
        assert grade(answer, reference) != "right"
        if answer is not None and answer.strip():
            assert grade(answer, answer) == "right"
    assert time.perf_counter() - start < 2 * LONGEST


@pytest.mark.quick
def test_the_fixed_list(tmp_path: Path) -> None:
    canary = tmp_path / "evaluated"
    for text in fixed(canary):
        survives(text)
    assert not canary.exists()


@settings(max_examples=COUNT, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=24).map("".join))
def test_random_strings(text: str) -> None:
    survives(text)


def test_votes_on_hostile_answers() -> None:
    answers = [text for text in islice(fixed(Path("nowhere")), 20)] * 2
    answers += [r"\sqrt{12}", r"2\sqrt{3}", r"2\sqrt{3}", "10!+0", "7", "7.0"]
    classes = equivalence_classes(answers)
    assert classes[r"\sqrt{12}"] == r"2\sqrt{3}" and classes["7.0"] == "7"
    assert set(classes) == set(answers)
