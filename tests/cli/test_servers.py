"""The command line with a policy behind a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from llmsmc.models.engines import client
from tests.cli.conftest import Command, error_line
from tests.models.engines.fake_servers import FakeServer, serving

KEY = "sk-never-written-4711"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_backoff", lambda state: 0.02)
    monkeypatch.setenv("LLMSMC_API_KEY", KEY)


@pytest.fixture
def server(tokenizer: PreTrainedTokenizerFast) -> Iterator[FakeServer]:
    with serving("vllm", tokenizer) as server:
        yield server


def test_solve_and_eval(server: FakeServer, command: Command, policy_folder: Path) -> None:
    policy = ["--policy", server.url, "--policy-tokenizer", policy_folder]
    settings = ["--algorithm", "self-consistency", "--particles", "4", "--max-steps", "3"]
    result = command("solve", "What is 1 + 2?", *policy, *settings, "--out", "run.json")
    assert result.exit_code == 0, result.output
    record = json.loads(Path("run.json").read_text())
    assert record["config"]["policy"] == server.url and record["cost"]["prompt_tokens"] > 0
    result = command("eval", "minimath-dev", "--limit", "2", *policy, *settings, "--out", "runs")
    assert result.exit_code == 0, result.output
    assert len(Path("runs/results.jsonl").read_text().splitlines()) == 2
    assert all(each["Authorization"] == f"Bearer {KEY}" for each in server.headers)
    written = [path for path in Path().rglob("*") if path.is_file()]
    assert written and not any(KEY.encode() in path.read_bytes() for path in written)


def test_an_evaluation_ends_with_its_server_and_goes_on_with_it(
    server: FakeServer, command: Command, policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_FOR", 0.3)
    arguments = ["eval", "minimath-dev", "--limit", "4", "--out", "runs", "--particles", "2"]
    arguments += ["--algorithm", "self-consistency", "--max-steps", "2", "--policy", server.url]
    arguments += ["--policy-tokenizer", str(policy_folder)]
    server.fault = lambda number, body: "drop" if number > 9 else None
    result = command(*arguments)
    assert result.exit_code == 1 and "no answer that can be used" in result.stderr
    before = len(Path("runs/results.jsonl").read_text().splitlines())
    assert 0 < before < 4
    server.fault = lambda number, body: None
    assert command(*arguments).exit_code == 0
    results = [json.loads(line) for line in Path("runs/results.jsonl").read_text().splitlines()]
    assert len(results) == 4 and not any(result["error"] for result in results)


def test_what_has_no_effect_is_refused(command: Command) -> None:
    address = ["--policy", "http://127.0.0.1:9/v1"]
    assert "quantization" in error_line(command("solve", "1?", *address, "--quantization", "nf4"))
    assert "policy_model" in error_line(command("solve", "1?", "--policy-model", "other"))
    assert "no secrets" in error_line(command("solve", "1?", "--policy", "http://a:b@host/v1"))


def test_a_guided_filter_needs_a_local_proposal(server: FakeServer, command: Command) -> None:
    """Which is told before the server is asked anything, or a tokenizer loaded."""
    result = command("solve", "1?", "--policy", server.url, "--algorithm", "guided")
    assert "proposal=" in error_line(result) and server.headers == []
