"""The tables of an ablation fit into a terminal of 80 columns; no number of theirs is cut."""

import io
from typing import Any

import pytest
from rich.console import Console

from llmsmc.cli.ablation_table import cells_table, comparisons_table

FIGURES = {
    "num_problems": 500,
    "num_runs": 1500,
    "accuracy": 0.8512,
    "standard_error": 0.0123,
    "probability_correct": 1.0,
    "log_score": -12.31,
    "calibration_error": 0.03,
    "generated_tokens": 123456,
    "seconds": 123.45,
    "num_errors": 12,
}
NUMBERS = ("1500", "85.1 ± 1.2", "100.0", "-12.31", "0.03", "123,456", "123.45", "12")
TITLES = ("cell", "n", "accuracy", "P(right)", "score", "ECE", "tokens", "seconds", "errors")


def printed(table: Any, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize(
    "label", ["bootstrap", "self-consistency, 64 particles, minimath-policy-small", "x" * 200]
)
def test_cells(label: str, width: int) -> None:
    cells = [{"label": label, "figures": FIGURES}, {"label": "nothing", "figures": None}]
    report: Any = {"cells": cells}
    text = printed(cells_table(report), width)
    words = text.split()
    assert all(title in words for title in TITLES)
    assert all(number in text for number in NUMBERS) and "…" not in text
    assert "".join(word for word in words if word.strip("x") == "").count("x") == label.count("x")


@pytest.mark.parametrize("width", [80, 200])
def test_comparisons(width: int) -> None:
    claim = "The bootstrap filter is better than self-consistency at equal budgets"
    known = {"claim": claim, "difference": 0.123, "low": -0.1, "high": 0.2, "metric": "accuracy"}
    rows = [known | {"verdict": "not distinguishable"}, known | {"difference": None}]
    report: Any = {"comparisons": rows}
    text = printed(comparisons_table(report), width)
    assert all(
        each in text
        for each in ("+12.3 %", "-10.0 to +20.0", "not distinguishable", "nothing to compare")
    )
    assert all(text.split().count(word) >= 2 for word in claim.split()) and "…" not in text
