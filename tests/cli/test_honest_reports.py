"""What a command shows is what it knows: intervals, rejections, columns, and where output goes."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from llmsmc.cli import console
from llmsmc.cli.ablation_table import cells_table
from llmsmc.cli.evaluation_table import coverage_table, evaluation_table
from llmsmc.evaluation.runner import wilson_interval
from tests.cli.conftest import Command, error_line
from tests.cli.test_ablation_table import FIGURES

QUESTION = "What is 3 + 4?"
SMALL = ["--policy", "minimath-policy-small", "--max-steps", "3", "--particles", "4"]


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    [
        (0.0, 6, 0.0, 0.3903),
        (1.0, 6, 0.6097, 1.0),
        (0.5, 10, 0.2366, 0.7634),
        (0.1, 1000, 0.0829, 0.1201),
    ],
)
def test_the_interval_of_a_share(share: float, count: int, low: float, high: float) -> None:
    assert wilson_interval(share, count) == pytest.approx((low, high), abs=1e-4)


def printed(table: Table, width: int = 80) -> str:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(table)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


GROUP = {
    "num_problems": 6,
    "accuracy": 0.0,
    "standard_error": 0.0,
    "probability_correct": 0.0,
    "tokens": 12345.0,
    "seconds": 123.45,
    "truncated": 1.0,
    "num_no_answer": 6,
    "num_errors": 1,
    "coverage": 0.0,
    "coverage_standard_error": 0.0,
    "pass_at_k": [{"k": 1, "estimate": 0.0, "standard_error": 0.0}],
}


def test_none_of_six_is_no_certainty() -> None:
    figures: dict[str, Any] = {"overall": GROUP, "levels": [GROUP | {"level": "algebra"}]}
    table = printed(evaluation_table(figures))
    assert table.count("0.0-39.0") == 2 and "…" not in table and "123.45" in table
    assert printed(coverage_table(GROUP)).count("0.0-39.0") == 2
    cells = [
        {
            "label": "none",
            "figures": FIGURES | {"num_problems": 6, "standard_error": 0.0, "accuracy": 0.0},
        }
    ]

    report: Any = {"cells": cells}
    assert "0.0 (0 to 39)" in printed(cells_table(report))


def test_output_that_nobody_watches_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdout", stream := io.StringIO())
    table = Table()
    for number in range(30):
        table.add_column(f"column-{number}", no_wrap=True)
    table.add_row(*[f"cell-{number}" for number in range(30)])
    console.results().print(table)
    assert all(f"cell-{number}" in stream.getvalue() for number in range(30))
    monkeypatch.setenv("COLUMNS", "40")
    assert console.results().width == 40


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve", QUESTION, "--out", "-"],
        ["eval", "minimath-dev", "--out", "-"],
        ["ablate", "methods", "--page", "-"],
        ["train", "reward", "--dataset", "minimath-dev", "--out", "-"],
    ],
)
def test_a_sign_is_no_name(command: Command, tmp_path: Path, arguments: list[str]) -> None:
    assert "A path names a file or a folder. Got '-'" in error_line(command(*arguments))
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("device", ["cuda:99", "mps" if sys.platform != "darwin" else "xpu"])
def test_a_device_that_is_not_there(command: Command, tiny: list[str], device: str) -> None:
    said = error_line(command("solve", QUESTION, *tiny, "--device", device))
    assert "no such device" in said and f"Got '{device}'" in said and "'cpu'" in said
    said = error_line(command("solve", QUESTION, *tiny, "--reward-device", device))
    assert "no such device" in said


def test_solutions_that_are_all_rejected(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rewards_of_test.py").write_text(
        "def none(question, steps):\n    return [0.0 for _ in steps]\n\n\n"
        "def half(question, steps):\n    return [0.5 for _ in steps]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = ["solve", QUESTION, *SMALL, "--algorithm", "published", "--out", "run.json"]
    result = command(*run, "--reward", "rewards_of_test:none")
    assert result.exit_code == 0, result.output
    assert "Every solution was rejected" in result.stdout
    assert "Every solution was rejected" in (tmp_path / "run.json").read_text()
    result = command(*run, "--reward", "rewards_of_test:half")
    assert result.exit_code == 0 and "rejected" not in result.stdout
