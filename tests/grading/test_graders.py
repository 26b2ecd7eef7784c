"""Right and wrong answers are told apart: the table of pairs, and the figures of other graders."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.graders.__main__ import Line, of_grader, own_verdicts, tables, total
from benchmarks.graders.pairs import Pair, read_pairs

PAIRS = read_pairs()
SAMPLE = PAIRS[::5]
MAX_FALSE_POSITIVES, MAX_FALSE_NEGATIVES = 0.01, 0.1  # shares of the wrong and the right answers

DOCS = Path(__file__).parents[2] / "docs"
ROWS: list[Line] = json.loads((DOCS / "figures" / "graders.json").read_text())


def test_the_table_has_both_verdicts_of_every_kind() -> None:
    assert len(PAIRS) >= 400
    assert len({(pair.answer, pair.reference) for pair in PAIRS}) == len(PAIRS)
    counts = Counter((pair.kind, pair.is_right) for pair in PAIRS)
    assert {kind for kind, _ in counts} == {kind for kind, right in counts if right}
    assert {kind for kind, _ in counts} == {kind for kind, right in counts if not right}
    assert 0.4 < sum(pair.is_right for pair in PAIRS) / len(PAIRS) < 0.6


def check(pairs: Sequence[Pair]) -> None:
    row = of_grader(pairs, {"grader": "", "version": "", "verdicts": own_verdicts(pairs)})
    positives, negatives = total(row, "false positives"), total(row, "false negatives")
    assert positives <= MAX_FALSE_POSITIVES * total(row, "wrong"), row["mistakes"]
    assert negatives <= MAX_FALSE_NEGATIVES * total(row, "right"), row["mistakes"]


def test_a_sample_of_the_pairs() -> None:
    check(SAMPLE)


@pytest.mark.quick
def test_all_pairs() -> None:
    check(PAIRS)


def test_the_page_has_the_figures() -> None:
    assert tables(ROWS) in (DOCS / "grading.md").read_text()


def test_the_figures_are_those_of_the_table() -> None:
    counts = Counter((pair.kind, pair.is_right) for pair in PAIRS)
    for row in ROWS:
        for kind, found in row["kinds"].items():
            assert (found["right"], found["wrong"]) == (counts[kind, True], counts[kind, False])
    assert len(PAIRS) == total(ROWS[0], "right") + total(ROWS[0], "wrong")


def test_math_verify_alone_is_worse_in_both() -> None:
    own, *others = ROWS
    assert own["grader"] == "llmsmc"
    for count in ("false positives", "false negatives"):
        alone = next(row for row in others if row["grader"] == "Math-Verify")
        assert total(own, count) < total(alone, count)


def test_a_grader_that_takes_everything_is_counted() -> None:
    row = of_grader(SAMPLE, {"grader": "", "version": "", "verdicts": ["right"] * len(SAMPLE)})
    assert total(row, "false positives") == total(row, "wrong") > 0
    assert total(row, "false negatives") == 0
    refused = of_grader(SAMPLE, {"grader": "", "version": "", "verdicts": ["error"] * len(SAMPLE)})
    assert total(refused, "false negatives") == total(refused, "right") > 0
    assert total(refused, "not compared") == len(SAMPLE)
