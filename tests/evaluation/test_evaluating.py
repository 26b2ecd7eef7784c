"""`llmsmc.evaluate`: what the command line does, from Python."""

import json
from pathlib import Path
from typing import Any

import pytest

import llmsmc
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Example, load
from llmsmc.inference import BestOfN
from tests.cli.conftest import Command, command, tiny  # noqa: F401 - fixtures
from tests.models.conftest import (  # noqa: F401 - fixtures
    policy,
    policy_folder,
    reward,
    reward_folder,
    reward_network,
    tokenizer,
)

ROWS: list[dict[str, Any]] = [
    {"question": f"What is {n} + 1?", "answer": n + 1, "id": f"q{n}"} for n in range(3)
]


def right(question: str, steps: list[str]) -> list[float]:
    return [0.9] * len(steps)


@pytest.fixture
def models(policy_folder: Path) -> dict[str, Any]:  # noqa: F811
    return {"policy": str(policy_folder), "reward": right, "max_steps": 2}


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("seconds", "cost")}


def test_it_is_what_the_command_does(
    command: Command,  # noqa: F811
    tiny: list[str],  # noqa: F811
    policy_folder: Path,  # noqa: F811
    reward_folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    shown = command("eval", "sums.jsonl", *tiny, "--algorithm", "best-of-n", "--out", "one")
    assert shown.exit_code == 0, shown.output
    settings: dict[str, Any] = {"policy": str(policy_folder), "reward": str(reward_folder)}
    settings |= {"max_steps": 3, "quantization": "none"}
    found = llmsmc.evaluate("sums.jsonl", "best-of-n", particles=4, out="two", **settings)
    assert found.folder == Path("two")
    for name in ("manifest.json", "results.jsonl", "summary.json"):
        assert (tmp_path / "two" / name).exists()
    first = [json.loads(line) for line in (tmp_path / "one/results.jsonl").read_text().splitlines()]
    assert sorted(map(repr, map(untimed, first))) == sorted(map(repr, map(untimed, found.results)))
    manifests = [json.loads((tmp_path / f / "manifest.json").read_text()) for f in ("one", "two")]
    assert manifests[0]["config"] == manifests[1]["config"] == found.config
    again = llmsmc.evaluate(Path("sums.jsonl"), BestOfN(4), out="one", **settings)
    seconds = {result["id"]: result["seconds"] for result in first}  # in the order they came in
    assert [result["seconds"] for result in again.results] == [seconds[f"q{n}"] for n in range(3)]


def test_without_a_folder_nothing_is_kept(
    models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = llmsmc.evaluate(ROWS, "bootstrap", particles=2, limit=2, **models)
    assert [result["id"] for result in found.results] == ["q0", "q1"]
    assert found.folder is None and found.accuracy == found.figures["overall"]["accuracy"]
    assert list(tmp_path.iterdir()) == []


def test_examples_and_data_sets(models: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    examples = [Example("a", "What is 1 + 1?", "2"), Example("b", "What is 1 + 2?", "3")]
    ids = []
    for given in (examples, load(str(tmp_path / "sums.jsonl")), "minimath-dev"):
        found = llmsmc.evaluate(given, "best-of-n", particles=2, limit=1, **models)
        ids += [result["id"] for result in found.results]
        assert found.results[0]["error"] is None
    assert ids[:2] == ["a", "q0"] and len(ids) == 3
    found = llmsmc.evaluate(ROWS, "best-of-n", particles=2, range="2:", **models)
    assert [result["id"] for result in found.results] == ["q1", "q2"]


def test_each_configuration_has_a_folder_within(models: dict[str, Any], tmp_path: Path) -> None:
    folders = {
        llmsmc.evaluate(ROWS, "best-of-n", seed, 2, limit=1, within=tmp_path, **models).folder
        for seed in (0, 1, 0)
    }
    assert folders == set(tmp_path.iterdir()) and len(folders) == 2
    (folder, _) = sorted(str(each) for each in folders)
    with pytest.raises(InputError, match="another configuration. Got seed 7"):
        llmsmc.evaluate(ROWS, "best-of-n", 7, 2, out=folder, **models)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dataset": []}, "The data set is empty"),
        ({"dataset": [{"number": 1}]}, "number = 1 at row 1"),
        ({"dataset": "nowhere"}, "There is no such data set. Got 'nowhere'"),
        ({"dataset": Path("nowhere")}, "cannot be read"),
        ({"limit": 0}, "limit is a count"),
        ({"range": "4:"}, "Got range '4:' of 3"),
        ({"in_flight": 0}, "in_flight is a count"),
        ({"tokens_meanwhile": -1}, "tokens_meanwhile is a count"),
        ({"algorithm": "bootstap"}, "Got 'bootstap'"),
        ({"temprature": 1.0}, "Got 'temprature'"),
        ({"aggregation": "mean"}, "Got 'mean'"),
    ],
)
def test_what_cannot_be_used(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        llmsmc.evaluate(**({"dataset": ROWS} | given))
