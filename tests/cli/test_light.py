"""Asking for help is quick: nothing heavy is imported before a command runs."""

import subprocess
import sys
from pathlib import Path

import llmsmc
from benchmarks.footprint import seconds_of
from tests.cli.conftest import Command

HEAVY = ("torch", "transformers", "numpy", "pyro", "rich.live", "rich.progress", "matplotlib")


def test_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, llmsmc.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_takes_less_than_half_a_second() -> None:
    assert seconds_of("-m", "llmsmc", "--help") < 0.5


TYPOS = {
    "solve": [
        "algorithm",
        "quantization",
        "reward-quantization",
        "reward-convention",
        "proposal",
        "dtype",
        "aggregation",
    ],
    "eval": ["algorithm", "quantization", "selection", "aggregation"],
}


def test_a_misspelled_name_costs_no_imports(tmp_path: Path) -> None:
    lines = [[name, "x", f"--{option}", "no/such/name"] for name in TYPOS for option in TYPOS[name]]
    code = f"""
import sys
from llmsmc.cli import app
for line in {lines!r}:
    try:
        app(line)
    except SystemExit as left:
        assert left.code == 2, line
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, (line, loaded)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("llmsmc: error: ") == len(lines)


def test_version(command: Command) -> None:
    result = command("--version")
    assert (result.exit_code, result.stdout) == (0, f"llmsmc {llmsmc.__version__}\n")


def test_no_command_is_a_question_for_help(command: Command) -> None:
    result = command()
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("solve", "eval", "train"))


def test_every_command_has_the_common_options(command: Command) -> None:
    for name in ("solve", "eval"):
        shown = command(name, "--help", env={"COLUMNS": "200"}).stdout
        for option in ("algorithm", "policy", "reward", "quantization", "particles", "seed", "out"):
            assert f"--{option}" in shown
