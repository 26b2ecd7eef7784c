"""`llmsmc eval`: results as they come, taken up again, and what they amount to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmsmc.evaluation import evaluating
from llmsmc.evaluation.configuration import Configuration
from llmsmc.evaluation.datasets import Example
from llmsmc.evaluation.folder import EvaluationFolder
from llmsmc.evaluation.runner import runner, summarize
from llmsmc.evaluation.solutions import read_solutions
from llmsmc.solving.machine import machine_line
from llmsmc.storage.folder_lock import lock_folder
from tests.cli.conftest import Command, error_line

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    rows: list[dict[str, Any]] = [
        {"question": f"What is {n} + 1?", "answer": n + 1, "level": 1 + n % 2} for n in range(4)
    ]
    rows[2]["question"] = "a bell \x07"
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return "sums.jsonl"


def lines(tmp_path: Path) -> list[Any]:
    return [json.loads(line) for line in (tmp_path / "run/results.jsonl").read_text().splitlines()]


def test_an_evaluation_in_two_parts(
    command: Command, tiny: list[str], dataset: str, tmp_path: Path
) -> None:
    options = [*tiny, "--algorithm", "best-of-n", "--out", "run", "--in-flight", "1"]
    first = command("eval", dataset, *options, "--limit", "2")
    assert first.exit_code == 0, first.output
    assert [line["id"] for line in lines(tmp_path)] == ["sums/1", "sums/2"]
    second = command("eval", dataset, *options)
    assert second.exit_code == 0, second.output
    written = lines(tmp_path)
    assert [line["id"] for line in written] == [f"sums/{n}" for n in (1, 2, 3, 4)]
    assert [line["error"] is None for line in written] == [True, True, False, True]
    assert written[2]["error"].startswith("InputError: The question contains a control character")
    assert "accuracy" in second.stdout and "\x1b" not in second.output
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    machine = summary["machine"]
    assert summary == summarize(written) | {"machine": machine} and machine["rows"] == 4
    assert f"{machine_line(machine)}\n" in second.stdout
    complete = command("eval", dataset, *options)  # loads nothing, and knows how it was computed
    assert f"{machine_line(machine)}\n" in complete.stdout
    (tmp_path / "run/summary.json").write_text('{"machine": {"precision": 3}}')
    assert "Policy:" not in command("eval", dataset, *options).stdout
    assert summary["overall"]["num_errors"] == 1
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["config"]["algorithm"] == {
        "name": "best-of-n",
        "num_particles": 4,
        "truncated": "keep",
        "record": True,
    }


def failing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let some questions fail."""
    actual = runner

    def chosen(*args: Any) -> Any:
        run = actual(*args)

        def wrapped(example: Example, seed: int) -> Any:
            if example.id in names:
                raise RuntimeError(f"no room for {example.id}")
            return run(example, seed)

        return wrapped

    monkeypatch.setattr(evaluating, "runner", chosen)


def test_an_evaluation_in_which_every_question_fails(
    command: Command,
    tiny: list[str],
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [*tiny, "--algorithm", "best-of-n", "--out", "run", "--in-flight", "1"]
    with monkeypatch.context() as patch:
        failing(patch, *(f"sums/{n}" for n in range(1, 5)))
        first = command("eval", dataset, *options)
        again = command("eval", dataset, *options)
    for result in (first, again):
        assert result.exit_code == 1
        assert "%" not in result.output and "±" not in result.output
        assert "4 of 4 questions failed:" in result.stdout
        assert "4 x RuntimeError: no room for sums/1 (sums/1 and 3 more)" in result.stdout
        assert result.stderr == (
            "llmsmc: error: all 4 questions failed, so that there is no result; the same command "
            "with --retry-errors tries them again; without it, it does not\n"
        )
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["overall"]["accuracy"] is None
    assert [kind["count"] for kind in summary["errors"]] == [4]
    last = command("eval", dataset, *options, "--retry-errors")
    assert last.exit_code == 0, last.output
    assert "1 of 4 questions failed, counted as wrong:" in last.stdout
    assert "1 x InputError: The question contains a control character." in last.stdout
    assert "--retry-errors tries them again" in " ".join(last.stdout.split())
    assert sorted(line["id"] for line in lines(tmp_path)) == [f"sums/{n}" for n in (1, 2, 3, 4)]


def test_only_what_failed_among_the_questions_asked_is_tried_again(
    command: Command,
    tiny: list[str],
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [*tiny, "--algorithm", "best-of-n", "--out", "run"]
    with monkeypatch.context() as patch:
        failing(patch, "sums/1", "sums/4")
        assert command("eval", dataset, *options).exit_code == 0
    before = {line["id"]: line for line in lines(tmp_path)}
    assert command("eval", dataset, *options, "--limit", "2", "--retry-errors").exit_code == 0
    after = {line["id"]: line for line in lines(tmp_path)}
    assert [name for name in before if before[name] != after[name]] == ["sums/1"]
    assert after["sums/1"]["error"] is None and after["sums/4"]["error"] is not None


def test_two_evaluations_in_one_folder(
    command: Command, tiny: list[str], dataset: str, tmp_path: Path
) -> None:
    options = [*tiny, "--algorithm", "best-of-n", "--out", "run", "--limit", "2"]
    with lock_folder(tmp_path / "run", "evaluation"):
        said = error_line(command("eval", dataset, *options))
        assert "Another evaluation is at work in this folder. Got 'run'; accepted: another" in said
        assert not (tmp_path / "run/manifest.json").exists()
    assert command("eval", dataset, *options).exit_code == 0
    written = (tmp_path / "run/results.jsonl").read_text()
    (tmp_path / "run/results.jsonl").write_text(written * 2)
    assert command("eval", dataset, *options).exit_code == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["overall"]["num_problems"] == 2


def test_results_do_not_depend_on_the_order(
    command: Command, tiny: list[str], dataset: str, tmp_path: Path
) -> None:
    command("eval", dataset, *tiny, "--out", "run")
    whole = {line["id"]: line for line in lines(tmp_path)}
    (tmp_path / "run/results.jsonl").write_text(json.dumps(whole["sums/2"]) + "\n")
    command("eval", dataset, *tiny, "--out", "run")
    for line in lines(tmp_path):
        for key in ("answer", "log_evidence", "seed"):
            assert line[key] == whole[line["id"]][key]


def test_nothing_is_loaded_where_nothing_is_left(
    command: Command,
    tiny: list[str],
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [*tiny, "--out", "run", "--limit", "1"]
    assert command("eval", dataset, *options).exit_code == 0
    monkeypatch.setattr(evaluating, "loaded", None)
    assert command("eval", dataset, *options).exit_code == 0
    assert len(lines(tmp_path)) == 1


def test_another_configuration_in_the_same_folder(
    command: Command, tiny: list[str], dataset: str, tmp_path: Path
) -> None:
    EvaluationFolder(tmp_path / "run", Configuration({"seed": 0}))
    said = error_line(command("eval", dataset, *tiny, "--out", "run", "--seed", "1"))
    assert "seed 1, which is 0 there" in said


def test_without_a_folder_the_configuration_names_it(
    command: Command, tiny: list[str], dataset: str, tmp_path: Path
) -> None:
    for seed in "01":
        assert command("eval", dataset, *tiny, "--limit", "1", "--seed", seed).exit_code == 0
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(folders) == 2 and all(name.startswith("sums-bootstrap-") for name in folders)


@pytest.mark.parametrize(("in_flight", "num_before"), [("1", 1), ("2", 0)])
def test_an_interrupt_leaves_what_can_be_taken_up(
    command: Command,
    tiny: list[str],
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_flight: str,
    num_before: int,
) -> None:
    actual = runner

    def interrupted(*args: Any) -> Any:
        run = actual(*args)

        def wrapped(example: Example, seed: int) -> Any:
            if example.id == "sums/2":
                raise KeyboardInterrupt
            return run(example, seed)

        return wrapped

    options = [*tiny, "--out", "run", "--in-flight", in_flight]
    with monkeypatch.context() as patch:
        patch.setattr(evaluating, "runner", interrupted)
        result = command("eval", dataset, *options)
    assert result.exit_code == 130
    results = "1 result" if num_before == 1 else f"{num_before} results"
    assert result.stderr.startswith(f"llmsmc: error: interrupted after {results};")
    assert len(lines(tmp_path)) == num_before
    assert command("eval", dataset, *options).exit_code == 0
    assert len(lines(tmp_path)) == 4


def test_several_in_flight_give_what_one_gives(
    command: Command, tiny: list[str], dataset: str, tmp_path: Path
) -> None:
    found = {}
    for in_flight, meanwhile in (("1", "0"), ("3", "0"), ("2", "5")):
        options = [*tiny, "--out", "run", "--in-flight", in_flight]
        options += ["--tokens-meanwhile", meanwhile]
        assert command("eval", dataset, *options).exit_code == 0
        found[in_flight] = {line["id"]: line for line in lines(tmp_path)}
        (tmp_path / "run").rename(tmp_path / in_flight)
    for others in ("2", "3"):
        assert found["1"].keys() == found[others].keys()
        for name, alone in found["1"].items():
            together = found[others][name]
            assert together["answer"] == alone["answer"] and together["error"] == alone["error"]
            assert together["log_evidence"] == pytest.approx(alone["log_evidence"], abs=1e-3)
            assert together["cost"]["generated_tokens"] == alone["cost"]["generated_tokens"]
    config = {name: json.loads((tmp_path / name / "manifest.json").read_text()) for name in "123"}
    config = {name: manifest["config"] for name, manifest in config.items()}
    assert config["3"]["in_flight"] == 3 and "block_size" not in config["3"]
    assert config["2"]["tokens_meanwhile"] == 5 and "tokens_meanwhile" not in config["3"]
    assert "in_flight" not in config["1"]


@pytest.mark.parametrize("in_flight", ["1", "2"])
def test_a_killed_evaluation_is_taken_up_where_it_was(
    command: Command, tiny: list[str], tmp_path: Path, in_flight: str
) -> None:
    """Nothing is run again; one problem at a time the results are the same bit for bit."""
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(20)]
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    options = ["eval", "sums.jsonl", *tiny, "--in-flight", in_flight, "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "llmsmc", *options, "killed"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    results = tmp_path / "killed/results.jsonl"
    while process.poll() is None and not (results.exists() and results.stat().st_size):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = results.read_text().rpartition("\n")[0].splitlines()
    assert 1 <= len(before) < 20
    kept = read_solutions(tmp_path / "killed")
    assert kept.keys() >= {json.loads(line)["id"] for line in before}
    assert command(*options, "killed").exit_code == 0
    assert command(*options, "whole").exit_code == 0
    assert results.read_text().splitlines()[: len(before)] == before
    files = [results, tmp_path / "whole/results.jsonl"]
    taken_up, whole = (
        {each["id"]: each for each in map(json.loads, file.read_text().splitlines())}
        for file in files
    )
    assert len(whole) == 20 and taken_up.keys() == whole.keys()
    for name, one in taken_up.items():
        other = whole[name]
        assert one["answer"] == other["answer"]
        assert one["log_evidence"] == pytest.approx(other["log_evidence"], abs=1e-3)
        assert one["cost"]["generated_tokens"] == other["cost"]["generated_tokens"]
    if in_flight == "1":
        assert read_solutions(tmp_path / "killed") == read_solutions(tmp_path / "whole")
        for each in (*taken_up.values(), *whole.values()):
            del each["seconds"]
            for name in ("seconds", "policy_seconds", "reward_seconds", "peak_memory_bytes"):
                del each["cost"][name]
        assert taken_up == whole
