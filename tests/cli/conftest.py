"""The command line, run on tiny random models; what they say is noise, how it is said is not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llmsmc.cli import app
from tests.models.conftest import (  # noqa: F401 - fixtures
    policy,
    policy_folder,
    reward,
    reward_folder,
    reward_network,
    tokenizer,
)

Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Return a function that runs the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path, **settings: Any) -> Result:
        return CliRunner().invoke(app, [os.fspath(each) for each in arguments], **settings)

    return run


@pytest.fixture
def tiny(policy_folder: Path, reward_folder: Path) -> list[str]:  # noqa: F811 - fixtures
    """Return the options that make a run on tiny models."""
    models = ["--policy", str(policy_folder), "--reward", str(reward_folder)]
    return [*models, "--quantization", "none", "--particles", "4", "--max-steps", "3"]


def error_line(result: Result) -> str:
    """Return the one line that a misuse is answered with."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("llmsmc: error: ")
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n")
    assert "Traceback" not in result.output
    return result.stderr
