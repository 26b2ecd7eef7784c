"""The command line with a policy behind a server."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from llmsmc.models.servers import client
from tests.cli.conftest import Command, error_line
from tests.models.servers.fake_servers import FakeServer, Json, serving

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
    assert "request_seconds" in error_line(command("solve", "1?", "--request-seconds", "3"))
    for option, value in (("request-seconds", "0"), ("retry-seconds", "-1"), ("max-answer", "0")):
        option = {"max-answer": "max-answer-bytes"}.get(option, option)
        result = command("solve", "1?", *address, f"--{option}", value)
        assert option.replace("-", "_") in error_line(result)
    assert "quantization" in error_line(command("solve", "1?", *address, "--quantization", "nf4"))
    assert "policy_model" in error_line(command("solve", "1?", "--policy-model", "other"))
    assert "no secrets" in error_line(command("solve", "1?", "--policy", "http://a:b@host/v1"))


OWN = "sk-of-the-reward-0816"


def keys_of(server: FakeServer) -> set[str | None]:
    return {headers.get("Authorization") for headers in server.headers}


@pytest.mark.parametrize("key", [None, OWN])
def test_each_server_is_sent_its_own_key(
    key: str | None,
    server: FakeServer,
    tokenizer: PreTrainedTokenizerFast,
    command: Command,
    policy_folder: Path,
    reward_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if key is not None:
        monkeypatch.setenv("LLMSMC_REWARD_API_KEY", key + "\r")
    arguments = ["--policy-tokenizer", policy_folder, "--reward-tokenizer", reward_folder]
    with serving("vllm", tokenizer) as judge:
        arguments += ["--policy", server.url, "--reward", judge.url]
        result = command("solve", "1 + 2?", "--particles", "2", *arguments)
    assert result.exit_code == 2 and "--runner pooling" in result.stderr
    assert keys_of(server) == {f"Bearer {KEY}"}
    assert keys_of(judge) == {None if key is None else f"Bearer {key}"}


@pytest.mark.parametrize("named", [False, True])
def test_a_plan_is_sent_the_keys_that_are_named_for_its_addresses(
    named: bool,
    server: FakeServer,
    command: Command,
    policy_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if named:
        monkeypatch.setenv("LLMSMC_API_KEYS", f"http://other/v1=x {server.url}={OWN}")
    Path("mine.toml").write_text(
        f"""
        title = "Mine"
        [run]
        dataset = "minimath-dev"
        problems = 1
        seeds = [0]
        [quick]
        problems = 1
        seeds = [0]
        [[cells]]
        series = "self-consistency"
        algorithm = "self-consistency"
        particles = 2
        policy = "{server.url}"
        policy_tokenizer = "{policy_folder}"
        max_steps = 2
        """
    )
    result = command("ablate", "mine.toml", "--out", "runs")
    assert result.exit_code == 0, result.output
    assert keys_of(server) == {f"Bearer {OWN}" if named else None}


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", " ", "\t"])
def test_a_key_with_the_end_of_its_line(
    end: str,
    server: FakeServer,
    command: Command,
    policy_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMSMC_API_KEY", KEY + end)
    policy = ["--policy", server.url, "--policy-tokenizer", policy_folder, "--max-steps", "1"]
    result = command("solve", "1?", *policy, "--algorithm", "self-consistency", "--particles", "1")
    assert result.exit_code == 0, result.output
    assert keys_of(server) == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "key", ["sk-geh\u00e4im-1", "sk-geh eim-1", "sk-geh\neim-1", "sk-geh\x7f-1"]
)
def test_a_key_that_cannot_be_sent_is_one_line(
    key: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSMC_API_KEY", key)
    models = ["--policy", "http://127.0.0.1:9/v1", "--reward", "minimath-reward"]
    result = command("solve", "1?", *models, "--debug")
    assert result.exit_code == 2 and "LLMSMC_API_KEY cannot be used" in result.stderr
    assert "sk-geh" not in result.output


def test_an_evaluation_keeps_no_key_that_a_server_repeats(
    tokenizer: PreTrainedTokenizerFast, command: Command
) -> None:
    def echo(number: int, body: Json) -> Any:
        if number % 2:
            return 400, {}, {"error": {"message": "x" * 280 + f" Bearer {KEY}"}}
        choice = {"message": {"content": f"{KEY} \\boxed{{3}} {KEY[:9]}"}, "finish_reason": "stop"}
        return 200, {"X-Echo": KEY}, {"choices": [choice]}

    with serving("chat", tokenizer, echo) as server:
        arguments = ["--algorithm", "self-consistency", "--particles", "1", "--out", "runs"]
        result = command(
            "eval", "minimath-dev", "--limit", "4", *arguments, "--policy", server.url, "--debug"
        )
    assert KEY[:9] not in result.output
    files = [path for path in Path().rglob("*") if path.is_file()]
    contents = [
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in files
    ]
    assert any(path.suffix == ".gz" for path in files)
    texts = [content.decode() for content in contents]
    assert any("***" in text for text in texts) and not any(KEY[:9] in text for text in texts)


def test_a_slow_server_has_the_time_that_it_is_given(
    server: FakeServer, command: Command, policy_folder: Path
) -> None:
    def slow(number: int, body: Json) -> None:
        time.sleep(3)

    server.fault = slow
    policy = ["--policy", server.url, "--policy-tokenizer", policy_folder, "--particles", "1"]
    policy += ["--reward", "minimath-reward"]
    begun = time.monotonic()
    result = command("solve", "1?", *policy, "--request-seconds", "0.3", "--retry-seconds", "0")
    assert result.exit_code == 1 and time.monotonic() - begun < 2.9
    assert "has not answered within 0.3 s" in result.stderr


def test_patience_is_no_part_of_what_is_run(
    server: FakeServer, command: Command, policy_folder: Path
) -> None:
    """An evaluation goes on in its folder with more of it."""
    arguments = ["eval", "minimath-dev", "--limit", "1", "--out", "runs", "--particles", "1"]
    arguments += ["--algorithm", "self-consistency", "--max-steps", "1", "--policy", server.url]
    arguments += ["--policy-tokenizer", str(policy_folder)]
    for options in ([], ["--request-seconds", "9", "--max-answer-bytes", "99999"]):
        assert command(*arguments, *options).exit_code == 0


def test_a_guided_filter_needs_a_local_proposal(server: FakeServer, command: Command) -> None:
    """Which is told before the server is asked anything, or a tokenizer loaded."""
    models = ["--policy", server.url, "--reward", "minimath-reward"]
    result = command("solve", "1?", *models, "--algorithm", "guided")
    assert "proposal=" in error_line(result) and server.headers == []


def test_why_particles_failed_is_said(
    tokenizer: PreTrainedTokenizerFast, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(number: int, body: Json) -> Any:
        if number % 4 == 1:
            return (
                400,
                {},
                {"error": {"message": f"Request {number} of {KEY} was \x1b[31mflagged."}},
            )
        if number % 4 == 2:
            return 200, {}, {"choices": []}
        choice = {"message": {"content": "\\boxed{3}"}, "finish_reason": "stop"}
        return 200, {}, {"choices": [choice]}

    arguments = ["--algorithm", "self-consistency", "--particles", "8"]
    said = ("400, Request 1 of *** was", "choices is not what")
    with serving("chat", tokenizer, some) as server:
        arguments += ["--policy", server.url]
        solved = command("solve", "1 + 2?", *arguments, "--out", "run.json")
        evaluated = command("eval", "minimath-dev", "--limit", "3", *arguments, "--out", "runs")
    for result, times, both in ((solved, 4, 2), (evaluated, 12, 6)):
        text = " ".join(result.stdout.split())
        assert result.exit_code == 0, result.output
        assert text.count(f"{both} x") == 2 and all(text.count(each) == 1 for each in said[1:])
        assert "of *** was" in text and KEY not in result.output and "\x1b" not in result.output
        assert f"{times} times" in text or f"{times} particles failed" in text
    cost = json.loads(Path("run.json").read_text())["cost"]
    assert sorted(cost["failures"].values()) == [2, 2] and cost["failed_particles"] == 4
    figures = json.loads(Path("runs/summary.json").read_text())
    assert [kind["count"] for kind in figures["failures"]] == [6, 6]
    assert all(len(kind["ids"]) == 3 for kind in figures["failures"])
    assert figures["errors"] == []
    again = command("eval", "minimath-dev", "--limit", "3", *arguments, "--out", "runs")
    assert again.stdout == evaluated.stdout
