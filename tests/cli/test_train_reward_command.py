"""`llmsmc train reward`: options, errors and the table; the training is tested where it lives."""

from pathlib import Path
from typing import Any

import pytest

from llmsmc.training import stages
from llmsmc.training.stages import Progress, RewardTraining
from tests.cli.conftest import Command, error_line

FIGURE = {"value": 0.75, "interval": None}
REPORT = {
    "rewards": {
        "[bold]mine": {
            "steps": 9,
            "questions": 3,
            "auroc_until_error": FIGURE,
            "auroc_all_steps": FIGURE,
            "auroc_answer_from_last_step": {"value": None, "interval": None},
        }
    }
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made = list[Any]()

    def run(training: RewardTraining, out: Path, **settings: Any) -> Any:
        settings.pop("watch")(Progress("samples", 1, 2, "questions", "50 % right", 10))
        made.append((training, out, settings))
        return REPORT if settings["until"] == "report" else None

    monkeypatch.setattr(stages, "run", run)
    return made


def test_options(command: Command, calls: list[Any]) -> None:
    options = ["--dataset", "minimath-dev", "--range", "3:9", "--samples", "4"]
    options += ["--labels", "checker", "--checker", "minimath", "--method", "adapter"]
    options += ["--rank", "8", "--step", r"\n", "--system", "Think.", "--reward", "own-log-prob"]
    result = command("train", "reward", "--out", "runs", *options)
    assert result.exit_code == 0, result.output
    ((training, out, settings),) = calls
    assert (out, settings) == (
        Path("runs"),
        {"until": "report", "report_only": False, "reuse": None},
    )
    assert len(training.questions) == 7 and training.num_samples == 4
    assert training.fitting.rank == 8 and training.also == ("own-log-prob",)
    assert training.settings.system == "Think."
    assert "[bold]mine" in result.stdout and "0.750" in result.stdout


def test_until_a_stage(command: Command, calls: list[Any]) -> None:
    result = command(
        "train", "reward", "--out", "runs", "--dataset", "minimath-dev", "--until", "samples"
    )
    assert result.exit_code == 0 and "samples" in result.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--dataset"),
        (["--dataset", "minimath-dev"], "--out"),
        (["--dataset", "no.jsonl", "--out", "runs"], "no.jsonl"),
        (["--dataset", "minimath-dev", "--out", "runs", "--method", "x"], "'x'"),
        (["--dataset", "minimath-dev", "--out", "runs", "--labels", "x"], "'x'"),
        (["--dataset", "minimath-dev", "--out", "runs", "--range", "999:"], "'999:' of"),
        (["--dataset", "minimath-dev", "--out", "runs", "--until", "dessert"], "dessert"),
        (["--dataset", "minimath-dev", "--out", "runs", "--report-only"], "--report-only"),
    ],
)
def test_what_cannot_be_used(command: Command, options: list[str], told: str) -> None:
    assert told in error_line(command("train", "reward", *options))


def test_questions_without_answers(command: Command, tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text('{"question": "What is 1 + 1?"}\n')
    found = error_line(command("train", "reward", "--dataset", "asked.jsonl", "--out", "runs"))
    assert "answer" in found and not (tmp_path / "runs").exists()
