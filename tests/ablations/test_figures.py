"""The figures of a cell."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from llmsmc.ablations.cell import make_cell
from llmsmc.ablations.drawing import draw
from llmsmc.ablations.figures import calibration_error, figures, reliability, value_of
from llmsmc.ablations.page import write_page
from llmsmc.ablations.reading import read_plan
from llmsmc.ablations.report import report
from llmsmc.cli.ablation_table import cells_table
from llmsmc.evaluation.datasets import Dataset
from tests.ablations.runs import result, row, runs
from tests.ablations.test_hostile_plans import MORE
from tests.ablations.test_plan import PLAN

CELL = make_cell({"series": "a", "algorithm": "bootstrap", "particles": 4})

DATASET = Dataset("minimath-500", "0", ())


def test_problems_are_the_sampling_unit() -> None:
    once = figures(CELL, runs("1100"))
    thrice = figures(CELL, runs("1100", "1100", "1100"))
    assert once["accuracy"] == thrice["accuracy"] == 0.5
    assert once["standard_error"] == thrice["standard_error"] == pytest.approx(math.sqrt(1 / 12))
    assert (thrice["num_problems"], thrice["num_runs"]) == (4, 12)


def test_failures_are_wrong_and_counted() -> None:
    failed = result(False, 0.0, answer=None, selected={}, error="ValueError: x", num_particles=None)
    found = figures(CELL, runs("11") | {("p9", 0): failed | {"truncated": None}})
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["num_errors"] == 1
    assert found["truncated"] == pytest.approx(0.25)


def test_a_cell_of_which_every_run_failed_has_no_figures(tmp_path: Path) -> None:
    """None in the table, on the page, in the figure, and in comparisons; one that ran has them."""
    failed = result(False, 0.0, answer=None, selected={}, error="ServerError: x")
    failed |= {"num_particles": None, "truncated": None, "probability": 0.0}
    plan = read_plan("p", PLAN + MORE)
    rows = [
        row("a", {(problem, 0): failed for problem in ("p000", "p001")}),
        row("b", runs("10")),
    ]
    made = report(plan, rows, ["p000", "p001"], "llmsmc ablate p")
    left, right = (cell["figures"] for cell in made["cells"])
    assert left is not None and right is not None
    assert left["accuracy"] is left["probability_correct"] is left["log_score"] is None
    assert (left["num_errors"], right["accuracy"]) == (2, 0.5)
    assert all(each["difference"] is None for each in made["comparisons"])
    shown = io.StringIO()
    Console(width=120, file=shown).print(cells_table(made))
    told = next(line for line in shown.getvalue().splitlines() if line.strip().startswith("a "))
    assert told.split() == ["a", "2", "-", "-", "-", "-", "10", "1.00", "2"]
    write_page(made, tmp_path / "p.md")
    page = (tmp_path / "p.md").read_text()
    assert "| - | - | - |" in page and "50.0" in page
    assert len(draw(made).axes[0].containers) == 1


def test_a_selection_is_another_reading_of_the_same_runs() -> None:
    cell = make_cell({**CELL.values, "selection": "argmax"})
    assert figures(cell, runs("1000"))["accuracy"] == 0.75
    assert cell.configuration(DATASET, 0) == CELL.configuration(DATASET, 0)


def test_the_log_score_sets_something_aside() -> None:
    assert value_of(result(False, 0.0), "log_score") == pytest.approx(math.log(0.01))
    assert value_of(result(True, 1.0), "log_score") == pytest.approx(0.0)


def test_calibration() -> None:
    sure = [result(n < 9, probability=0.9) for n in range(10)]
    assert calibration_error(reliability(sure)) == pytest.approx(0.0)
    proud = [result(n < 5, probability=1.0) for n in range(10)]
    assert calibration_error(reliability(proud)) == pytest.approx(0.5)
    assert reliability([*sure, *proud])[0] == {
        "from": 0.9,
        "to": 1.0,
        "count": 20,
        "probability": pytest.approx(0.95),
        "right": 0.7,
    }
    assert calibration_error(reliability([result(False, answer=None)])) is None
