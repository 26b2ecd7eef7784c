"""Results of questions, what they amount to, and the folder that holds them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmsmc.datasets import Example
from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.evaluation import (
    block_size,
    evaluate_each,
    evaluate_missing,
    evaluate_together,
    result_of,
    seed_of,
    summarize,
)
from llmsmc.evaluation_folder import EvaluationFolder, differences, hash_of
from llmsmc.posterior import Posterior
from tests.solutions import answering, posterior

EXAMPLE = Example("a/1", "What is 3 + 4?", "7", level=2, family="sums")
FIELDS = {
    *("id", "question", "answer", "level", "family", "reference", "seed", "correct", "cost"),
    *("probability_correct", "log_evidence", "truncated", "num_steps", "num_particles"),
    *("seconds", "error", "grading", "probability", "selected"),
}


def right(example: Example, seed: int) -> Posterior:
    return posterior(answering("7.0", "8", "7", None), [2, 3, 2, 1], num_cut_off=1)


def wrong(example: Example, seed: int) -> Posterior:
    return posterior(answering("8", "7"), [3, 1])


def test_a_result() -> None:
    result = result_of(EXAMPLE, right, seed=5)
    assert set(result) == FIELDS
    assert (result["id"], result["level"], result["seed"]) == ("a/1", 2, 5)
    assert result["correct"] and result["probability_correct"] == pytest.approx(0.5)
    assert result["answer"] in ("7", "7.0") and result["reference"] == "7"
    assert (result["truncated"], result["num_steps"], result["num_particles"]) == (1, 1, 4)
    assert result["error"] is None and result["cost"]["generated_tokens"] == 100
    assert not result_of(EXAMPLE, wrong, seed=5)["correct"]


def test_the_rule_of_selection_gives_the_answer() -> None:
    def chosen(example: Example, seed: int) -> Posterior:
        selected = {"mode": "7", "majority": "8", "argmax": None}
        metadata = {"selection": "majority", "selected": selected}
        return replace(posterior(answering("7", "8", "8"), [3, 1, 1]), metadata=metadata)

    result = result_of(EXAMPLE, chosen, seed=0)
    assert result["answer"] == "8" and not result["correct"]
    assert result["probability"] == pytest.approx(0.4)
    assert result["probability_correct"] == pytest.approx(0.6)
    assert result["selected"] == {"mode": True, "majority": False, "argmax": False}


def test_a_failure_is_a_wrong_answer_among_others() -> None:
    def run(example: Example, seed: int) -> Posterior:
        if example.id == "a/2":
            raise RuntimeError("out of\nmemory")
        if example.id == "a/3":
            raise DegenerateWeightsError("dead", posterior(answering("7", "8"), [0, 0]))
        return right(example, seed)

    examples = [Example(f"a/{n}", "What is 3 + 4?", "7") for n in (1, 2, 3, 4)]
    results = list(evaluate_each(examples, run, seed=0))
    assert [result["correct"] for result in results] == [True, False, False, True]
    assert results[1]["error"] == "RuntimeError: out of memory"
    assert results[2]["error"] == "DegenerateWeightsError: dead"
    assert results[1]["cost"]["generated_tokens"] == 0
    assert results[2]["cost"]["generated_tokens"] == 100
    assert all(set(result) == FIELDS for result in results)


def test_interrupts_are_not_failures_of_a_question() -> None:
    def run(example: Example, seed: int) -> Posterior:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(evaluate_each([EXAMPLE], run, seed=0))


def test_seeds_are_those_of_the_question() -> None:
    assert seed_of(0, "a") == seed_of(0, "a")
    assert len({seed_of(seed, name) for seed in (0, 1) for name in "ab"}) == 4
    assert all(0 <= seed_of(0, str(n)) < 2**63 for n in range(100))


def test_figures() -> None:
    results = [result_of(EXAMPLE, run, seed=0) for run in (right, right, right, wrong)]
    other = Example("b", "?", "7", level=1)
    results.append(result_of(other, wrong, seed=0))
    figures = summarize(results)
    assert [group["level"] for group in figures["levels"]] == [1, 2]
    level = figures["levels"][1]
    assert level["accuracy"] == 0.75 and level["num_problems"] == 4
    assert level["standard_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert level["truncated"] == pytest.approx(0.25 * 3 / 4)
    assert figures["overall"]["accuracy"] == 0.6
    assert figures["overall"]["probability_correct"] == pytest.approx((3 * 0.5 + 2 * 0.25) / 5)


def test_what_was_not_compared_is_wrong_and_listed() -> None:
    answers = {"a": "7", "b": "9^{9^{9^{9}}}", "c": None}

    def run(example: Example, seed: int) -> Posterior:
        return posterior(answering(answers[example.id]), [1])

    results = list(evaluate_each((Example(name, "?", "7") for name in answers), run, seed=0))
    assert [result["grading"] for result in results] == ["right", "unreadable", "no answer"]
    assert [result["correct"] for result in results] == [True, False, False]
    figures = summarize(results)
    assert figures["overall"]["num_not_compared"] == figures["overall"]["num_no_answer"] == 1
    assert figures["not_compared"] == [
        {"id": "b", "grading": "unreadable", "answer": "9^{9^{9^{9}}}", "reference": "7"}
    ]
    assert figures["overall"]["accuracy"] == pytest.approx(1 / 3)


CONFIG = {"algorithm": {"name": "bootstrap", "num_particles": 4}, "seed": 0}


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_folder_is_taken_up_again(tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path / "deep" / "run", CONFIG)
    folder.append(result_of(EXAMPLE, right, seed=0))
    again = EvaluationFolder(tmp_path / "deep" / "run", CONFIG)
    assert again.done == {"a/1"}
    again.append(result_of(Example("a/2", "?", "1"), wrong, seed=0))
    assert [line["id"] for line in lines(again.path)] == ["a/1", "a/2"]
    assert again.write_summary()["overall"]["accuracy"] == 0.5
    assert json.loads((again.path / "summary.json").read_text()) == again.write_summary()
    manifest = json.loads((again.path / "manifest.json").read_text())
    assert manifest["config"] == CONFIG and manifest["config_hash"] == hash_of(CONFIG)
    assert {"versions", "started"} <= set(manifest)


def test_a_half_written_line_is_dropped(tmp_path: Path) -> None:
    EvaluationFolder(tmp_path, CONFIG).append(result_of(EXAMPLE, right, seed=0))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"id": "a/2", "corr')
    folder = EvaluationFolder(tmp_path, CONFIG)
    assert folder.done == {"a/1"}
    folder.append(result_of(Example("a/2", "?", "1"), wrong, seed=0))
    assert [line["id"] for line in lines(tmp_path)] == ["a/1", "a/2"]


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    EvaluationFolder(tmp_path, CONFIG)
    other = {"algorithm": {"name": "bootstrap", "num_particles": 8}, "seed": 0}
    with pytest.raises(InputError, match=r"Got algorithm.num_particles 8, which is 4 there\."):
        EvaluationFolder(tmp_path, other)
    assert differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 2}}) == ["a null, which is 1 there"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{", "not the manifest"),
        ("manifest.json", "[]", "not the manifest"),
        ("results.jsonl", '{"id": 1}\n', "nothing says of what"),
    ],
)
def test_folders_of_others(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        EvaluationFolder(tmp_path, CONFIG)
    assert (tmp_path / name).read_text() == content


def test_broken_results_are_not_overwritten(tmp_path: Path) -> None:
    EvaluationFolder(tmp_path, CONFIG)
    (tmp_path / "results.jsonl").write_text('{"id": 1}\nnonsense\n{"id": 2}\n')
    with pytest.raises(InputError, match="line 2"):
        EvaluationFolder(tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["file", "file/deeper", "a\x00b", "x" * 300])
def test_folders_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        EvaluationFolder(tmp_path / name, CONFIG)


def test_a_block_of_which_something_is_missing_is_run_as_a_whole() -> None:
    examples = [Example(f"a/{n}", "What is 3 + 4?", "7") for n in range(block_size(1) * 3)]
    ran = list[str]()

    def run(example: Example, seed: int) -> Posterior:
        ran.append(example.id)
        return right(example, seed)

    blocks = [[e.id for e in examples[k : k + block_size(1)]] for k in range(0, 24, 8)]
    missing = [blocks[1][2], blocks[2][7]]
    done = {example.id for example in examples}.difference(missing)
    results = list(evaluate_together(examples, run, 0, in_flight=1, done=done))
    assert [result["id"] for result in results] == missing
    assert ran == [*blocks[1][:3], *blocks[2]]
    assert results == [result_of(e, right, seed_of(0, e.id)) for e in examples if e.id in missing]


@pytest.mark.parametrize(("in_flight", "num_run"), [(1, 2), (2, 4)])
def test_what_is_done_is_run_again_only_in_a_batch(in_flight: int, num_run: int) -> None:
    examples = [Example(f"a/{n}", "What is 3 + 4?", "7") for n in range(4)]
    ran = list[str]()

    def run(example: Example, seed: int) -> Posterior:
        ran.append(example.id)
        return right(example, seed)

    results = list(evaluate_missing(examples, run, 0, in_flight, done={"a/0", "a/2"}))
    assert {result["id"] for result in results} == {"a/1", "a/3"}
    assert len(ran) == num_run
