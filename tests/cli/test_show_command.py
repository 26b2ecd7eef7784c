"""`llmsmc show`, and what `eval` and `solve` say of missing answers."""

import json
from pathlib import Path

import pytest

from llmsmc.evaluation.solutions import read_solutions
from tests.cli.conftest import Command, error_line


@pytest.fixture
def evaluated(command: Command, tiny: list[str], tmp_path: Path) -> str:
    """Run an evaluation of a model that never gives an answer; return what it printed."""
    rows = [{"question": f"What is {n} + 1? [b]", "answer": n + 1} for n in range(3)]
    rows[2]["question"] = "a bell \x07"
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    options = ["--algorithm", "best-of-n", "--out", "run", "--solutions", "all"]
    result = command("eval", "sums.jsonl", *tiny, *options, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_evaluation_is_shown(command: Command, evaluated: str, tmp_path: Path) -> None:
    assert max(map(len, evaluated.splitlines())) <= 80 and "\u2026" not in evaluated
    said = " ".join(evaluated.split())
    assert "coverage: any particle is right 0.0%" in said and "pass@4" in said
    assert "ended without a box, which the prompt does not ask for" in said
    assert "--system boxed" in said
    listed = command("show", "run")
    assert listed.exit_code == 0, listed.output
    assert all(f"sums/{n}" in listed.stdout for n in (1, 2, 3)) and "3 questions" in listed.stdout
    assert "1 question;" in command("show", "run", "--only", "failed").stdout
    kept = read_solutions(tmp_path / "run")
    assert list(kept) == ["sums/1", "sums/2"] and len(kept["sums/1"]["solutions"]) == 4
    shown = command("show", "run", "1", "--all-solutions").stdout
    assert "What is 0 + 1? [b]" in shown and "Solution 4 of 4: no answer" in shown
    assert "Selected solution" in command("show", "run", "sums/2").stdout


def test_what_cannot_be_shown_is_named(command: Command, evaluated: str) -> None:
    for options, said in (
        (["nowhere"], "There is no evaluation in this folder"),
        (["run", "sums/3"], "Nothing was kept of this question. Got 'sums/3'"),
        (["run", "7"], "Got '7', which is that of 0; accepted: one of sums/1, sums/2, sums/3."),
        (["run", "--only", "good"], "Got 'good'"),
    ):
        assert said in error_line(command("show", *options))


def test_solve_says_why_answers_are_missing(command: Command, tiny: list[str]) -> None:
    options = ["--algorithm", "best-of-n", "--max-tokens", "6"]
    said = " ".join(command("solve", "What is 3 + 4?", *tiny, *options).stdout.split())
    assert "4 of 4 particles have no answer:" in said
    assert "cut off by the limit on tokens (--max-tokens)" in said
    assert ("--system boxed" in said) == ("which the prompt does not ask for" in said)
    again = command("solve", "What is 3 + 4?", *tiny, *options, "--system", "boxed").stdout
    assert "--system boxed" not in " ".join(again.split())
