"""`llmsmc solve`: the report, and the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType as Kind
from transformers import PreTrainedTokenizerFast

from llmsmc.cli import solve_run
from llmsmc.errors import DegenerateWeightsError, NumericalError
from llmsmc.inference import BootstrapFilter
from llmsmc.models import RewardModel
from llmsmc.results.posterior import Posterior
from llmsmc.storage import json_files as files
from tests.cli.conftest import Command, error_line
from tests.models import gguf_files as files_of_gguf
from tests.models.conftest import tokenizer  # noqa: F401 - a fixture
from tests.solutions import answering, posterior

QUESTION = "What is 3 + 4?"


def run_file(tmp_path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return read


def test_a_report_and_a_file(command: Command, tiny: list[str], tmp_path: Path) -> None:
    result = command("solve", QUESTION, *tiny, "--seed", "7", "--out", "run.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for heading in ("Answer", "Best solution", "Evidence and cost", "log-evidence", "model calls"):
        assert heading in result.stdout
    assert "\x1b" not in result.stdout and "\r" not in result.stdout

    run = run_file(tmp_path)
    assert run["config"]["algorithm"]["name"] == "bootstrap"
    assert run["config"]["algorithm"]["num_particles"] == 4
    assert run["config"]["quantization"] == "none"
    assert (run["seed"], run["question"], run["error"]) == (7, QUESTION, None)
    assert sum(each["probability"] for each in run["answers"]) == pytest.approx(1)
    assert all({"answer", "probability", "standard_error"} == set(each) for each in run["answers"])
    assert isinstance(run["log_evidence"], float) and isinstance(run["truncated"], int)
    assert {"llmsmc", "torch", "transformers"} <= set(run["versions"])
    assert run["history"][-1]["log_evidence"] == run["log_evidence"]
    assert run["history"][-1]["generated_tokens"] == run["cost"]["generated_tokens"] > 0
    assert len(run["history"][0]["ancestors"]) == len(run["solutions"]) == 4
    for solution in run["solutions"]:
        assert len(solution["steps"]) == len(solution["rewards"])
    assert sum(each["weight"] for each in run["solutions"]) == pytest.approx(1)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_the_same_seed_gives_the_same_run(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    runs = []
    for seed in "778":
        assert command("solve", QUESTION, *tiny, "--seed", seed, "--out", "run.json").exit_code == 0
        runs.append(run_file(tmp_path))
    assert runs[0]["solutions"] == runs[1]["solutions"] != runs[2]["solutions"]


def test_the_question_can_come_from_the_standard_input(
    command: Command, tiny: list[str], tmp_path: Path
) -> None:
    options = [*tiny, "--out", "run.json"]
    assert command("solve", "-", *options, input=f"{QUESTION}\n").exit_code == 0
    assert run_file(tmp_path)["question"] == QUESTION


def test_a_sample_problem_is_checked(command: Command, tiny: list[str], tmp_path: Path) -> None:
    # A context that the random policy can take; its solutions are wrong, or say nothing.
    result = command("solve", "--sample-problem", "1", *tiny, "--out", "run.json")
    assert result.exit_code == 0, result.output
    run = run_file(tmp_path)
    assert run["problem"]["level"] == 1
    assert f"The true answer is {run['problem']['answer']}." in result.stdout
    assert " ".join(run["question"].split())[:40] in " ".join(result.stdout.split())
    assert "best solution" in result.stdout


@pytest.mark.parametrize(
    "algorithm", ["greedy", "self-consistency", "best-of-n", "weighted-best-of-n"]
)
def test_the_other_algorithms(
    command: Command, tiny: list[str], tmp_path: Path, algorithm: str
) -> None:
    result = command("solve", QUESTION, *tiny, "--algorithm", algorithm, "--out", "run.json")
    assert result.exit_code == 0, result.output
    assert run_file(tmp_path)["config"]["algorithm"]["name"] == algorithm


def test_no_reward_model_is_loaded_where_none_is_asked(
    command: Command, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RewardModel, "from_pretrained", None)
    assert command("solve", QUESTION, *tiny, "--algorithm", "greedy").exit_code == 0


SNAPSHOT = posterior(answering("7", "8"), [3, 1])
DEAD = posterior(answering("7", "8"), [0, 0])


@pytest.mark.parametrize(
    ("error", "code", "said", "recorded"),
    [
        (DegenerateWeightsError("All dead.", DEAD), 1, "All dead.", []),
        (NumericalError("NaN at step 2."), 1, "NaN at step 2.", ["7", "8"]),
        (KeyboardInterrupt(), 130, "interrupted", ["7", "8"]),
    ],
)
def test_what_ends_early_is_written_as_far_as_it_came(
    command: Command,
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
    recorded: list[str],
) -> None:
    def iterate(*args: object, **settings: object) -> Iterator[Posterior]:
        yield SNAPSHOT
        raise error

    monkeypatch.setattr(BootstrapFilter, "iterate", iterate)
    result = command("solve", QUESTION, *tiny, "--out", "run.json")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(f"llmsmc: error: {said}") and result.stderr.count("\n") == 1
    run = run_file(tmp_path)
    assert said in run["error"]
    assert [each["answer"] for each in run["answers"]] == recorded
    assert run["cost"]["generated_tokens"] == 100


def test_what_cannot_be_written_is_still_reported(
    command: Command, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", full)
    result = command("solve", QUESTION, *tiny, "--out", "run.json")
    assert result.exit_code == 2
    assert "Best solution" in result.stdout
    assert "cannot be written (No space left on device)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_failing_run_needs_no_file(
    command: Command, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def advance(*args: object) -> None:
        raise NumericalError("NaN at step 0.")

    monkeypatch.setattr(solve_run, "_advance", advance)
    assert command("solve", QUESTION, *tiny).exit_code == 1


def test_rules_precisions_and_thinking(command: Command, tiny: list[str], tmp_path: Path) -> None:
    options = ["--step", "tokens:6", "--dtype", "bfloat16", "--thinking", "--thinking-step", r"\n"]
    options += ["--max-thinking-tokens", "4", "--score-answer-only", "--out", "run.json"]
    result = command("solve", QUESTION, *tiny, *options)
    assert result.exit_code == 0, result.output
    run = run_file(tmp_path)
    assert run["config"]["step"] == "tokens:6"
    assert run["config"]["dtype"] == "bfloat16"
    assert run["config"]["thinking"]["max_tokens"] == 4
    assert all(
        "</think>" in "".join(solution["steps"]) or len(solution["steps"]) < 3
        for solution in run["solutions"]
    )


def test_options_that_do_not_go_together(command: Command, tiny: list[str]) -> None:
    for options in (
        ["--max-thinking-tokens", "4"],
        ["--step", "tokens:none"],
        ["--dtype", "int7"],
        ["--double-quantization"],
        ["--device", "cpu", "--device-map", "auto"],
    ):
        assert "Got" in error_line(command("solve", QUESTION, *tiny, *options))


def test_a_gguf_file(
    command: Command,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,  # noqa: F811 - a fixture
) -> None:
    path = tmp_path / "tiny.gguf"
    files_of_gguf.write(
        path,
        files_of_gguf.network("llama", len(tokenizer)),
        tokenizer,
        {"": Kind.Q8_0},
        metadata={"tokenizer.chat_template": "{{ messages[0]['content'] }}"},
    )
    run = ["solve", QUESTION, "--policy", path, "--algorithm", "self-consistency", "--seed", "1"]
    run += ["--particles", "2", "--max-steps", "2", "--max-tokens-per-step", "8"]
    result = command(*run, "--system", "Be brief.", "--out", "run.json")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "weights in float32 from Q8_0; 0.5 MB of weights" in said
    assert "Policy: float32 by default, read from Q8_0; " in result.stdout
    assert result.stdout.count("thread") == 1 and ", 2 rows, 0.5 MB" in result.stdout
    assert "its text stands at the start" in " ".join(result.stdout.split())
    record = run_file(tmp_path)
    machine = record["machine"]
    assert machine == {
        "precision": "float32, read from Q8_0",
        "chosen": "by default",
        "device": "cpu",
        "threads": machine["threads"],
        "rows": 2,
        "weight_bytes": machine["weight_bytes"],
    }
    assert record["config"]["policy_weights"] == "Q8_0"
    assert "at the start of the question" in record["warnings"][0]
