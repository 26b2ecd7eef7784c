"""`llmsmc train minimath`: options and progress; the training itself is tested where it lives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmsmc.models.minimath.training import recipe
from llmsmc.models.minimath.training.loop import Progress
from llmsmc.models.minimath.training.recipe import StageProgress
from tests.cli.conftest import Command, error_line


def test_stages_and_options(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    def run(folder: Path, **settings: Any) -> Iterator[StageProgress]:
        calls.append((folder, settings))
        for stage in settings["only"]:
            for update in (1, 2):
                yield StageProgress(stage, Progress(update, 2, 0.5, {}, 1e-3, 1.0))

    monkeypatch.setattr(recipe, "run", run)
    options = ["--seed", "3", "--device", "cpu", "--only", "clean", "--only", "policy"]
    result = command("train", "minimath", "--out", "models", *options)
    assert result.exit_code == 0, result.output
    assert calls[0][0] == Path("models")
    assert calls[0][1]["seed"] == 3 and calls[0][1]["device"] == "cpu"
    assert list(calls[0][1]["only"]) == ["clean", "policy"] and calls[0][1]["recipe"] is None
    assert command("train", "minimath", "--brief").exit_code == 0
    assert calls[1][1]["recipe"] == recipe.brief() and calls[1][1]["only"] == recipe.STAGES


def test_unknown_stages(command: Command) -> None:
    assert "Got stage 'dessert'" in error_line(command("train", "minimath", "--only", "dessert"))


def test_an_interrupt(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any, **settings: Any) -> Iterator[StageProgress]:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "run", run)
    result = command("train", "minimath")
    assert result.exit_code == 130
    assert result.stderr.startswith("llmsmc: error: interrupted")
