"""Results of questions, what they amount to, and the folder that holds them."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.evaluation.configuration import Configuration
from llmsmc.evaluation.datasets import Example
from llmsmc.evaluation.folder import EvaluationFolder
from llmsmc.evaluation.runner import (
    evaluate_each,
    evaluate_missing,
    result_of,
    seed_of,
    summarize,
)
from llmsmc.results.posterior import Posterior
from llmsmc.storage.folder_lock import lock_folder
from tests.solutions import answering, posterior

EXAMPLE = Example("a/1", "What is 3 + 4?", "7", level=2, family="sums")
FIELDS = {
    *("id", "question", "answer", "level", "family", "reference", "seed", "correct", "cost"),
    *("probability_correct", "log_evidence", "truncated", "num_steps", "num_particles"),
    *("seconds", "error", "grading", "probability", "selected"),
    *("num_right", "independent_draws", "why_no_answer", "no_answer"),
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


def drawn(*answers: str | None, independent: bool = True) -> Any:
    """Return the run of an algorithm of which these are the answers of the particles."""

    def run(example: Example, seed: int) -> Posterior:
        found = posterior(answering(*answers), [1] * len(answers))
        causes = [None if answer else "no_answer" for answer in answers]
        said = {"independent_draws": independent, "why_no_answer": causes}
        return replace(found, metadata=said)

    return run


def test_coverage_and_pass_at_k() -> None:
    """The estimate is the share of the choices of k particles that have a right one."""
    runs = (("7", "8", "7", None, "1"), ("8", "8", "8", "8", "8"), ("7.0", "2", "3", "4", "5"))
    results = [result_of(EXAMPLE, drawn(*answers), 0) for answers in runs]
    assert [each["num_right"] for each in results] == [2, 0, 1]
    failed = result_of(EXAMPLE, failing("gone"), 0)
    figures = summarize([*results, failed])["overall"]
    assert figures["coverage"] == 0.5
    assert figures["coverage_standard_error"] == pytest.approx((0.5 * 0.5 / 4) ** 0.5)
    assert [each["k"] for each in figures["pass_at_k"]] == [1, 2, 4, 5]
    for each in figures["pass_at_k"]:
        shares = [
            fmean("7" in chosen or "7.0" in chosen for chosen in combinations(answers, each["k"]))
            for answers in runs
        ]
        assert each["estimate"] == pytest.approx(sum(shares) / 4)
        spread = sum((share - each["estimate"]) ** 2 for share in [*shares, 0.0]) / 4
        assert each["standard_error"] == pytest.approx((spread / 4) ** 0.5)
    assert figures["pass_at_k"][0]["estimate"] == pytest.approx((2 / 5 + 1 / 5) / 4)


def test_particles_that_are_no_independent_draws_have_coverage_alone() -> None:
    resampled = result_of(EXAMPLE, drawn("7", "7", independent=False), 0)
    figures = summarize([resampled, result_of(EXAMPLE, drawn("7", "8"), 0)])["overall"]
    assert figures["coverage"] == 1.0 and figures["pass_at_k"] == []
    older = {key: value for key, value in resampled.items() if key != "num_right"}
    for results in ([older], [older, resampled], [result_of(EXAMPLE, failing("gone"), 0)]):
        assert summarize(results)["overall"]["coverage"] is None


def test_causes_are_counted_by_question_and_by_solution() -> None:
    runs = (("7", None, None), (None, None, None), ("7", "7", "7"))
    results = [result_of(EXAMPLE, drawn(*answers), 0) for answers in runs]
    assert [each["why_no_answer"] for each in results] == [None, "no_answer", None]
    figures = summarize([*results, result_of(EXAMPLE, right, 0)])["overall"]
    assert figures["no_answer"] == [{"cause": "no_answer", "questions": 1, "solutions": 5}]
    assert figures["num_solutions"] == 9 and figures["num_no_answer"] == 1


def failing(message: str) -> Any:
    def run(example: Example, seed: int) -> Posterior:
        raise RuntimeError(message.replace("ID", example.id))

    return run


def test_all_failed_is_no_result() -> None:
    examples = [Example(f"a/{n}", "?", "7", level=n) for n in (1, 2)]
    failed = list(evaluate_each(examples, failing("gone"), seed=0))
    figures = summarize(failed)
    for group in (figures["overall"], *figures["levels"]):
        assert group["num_errors"] == group["num_problems"]
        for name in ("accuracy", "standard_error", "probability_correct", "truncated"):
            assert group[name] is None
    figures = summarize([*failed, result_of(EXAMPLE, right, seed=0)])
    assert figures["overall"]["accuracy"] == pytest.approx(1 / 3)
    assert [group["accuracy"] for group in figures["levels"]] == [None, 0.5]


@pytest.mark.parametrize(
    ("messages", "counts"),
    [
        (["out of memory"] * 3, [3]),
        (["a", "b", "b"], [2, 1]),
        (["12 tokens at most", "7 tokens at most", "no room"], [2, 1]),
        (["Not known: 'é'", "Not known: 'ü'"], [2]),
        (['key "a"', 'key "b"'], [2]),
        (["It is wrong. Got a; accepted: c.", "It is wrong. Got b; accepted: d."], [2]),
        (["It is wrong. Got a.", "It is bad. Got a."], [1, 1]),
        (["answered 500: ID", "answered 503: ID"], [2]),
        (["model `x`", "model `y`"], [2]),
        (["", ""], [2]),
        ([], []),
    ],
)
def test_errors_are_counted_by_kind(messages: list[str], counts: list[int]) -> None:
    results = [result_of(EXAMPLE, right, seed=0)]
    for number, message in enumerate(messages):
        results.append(result_of(Example(f"b/{number}", "?", "7"), failing(message), seed=0))
    errors = summarize(results)["errors"]
    assert [kind["count"] for kind in errors] == counts == [len(kind["ids"]) for kind in errors]
    for kind in errors:
        first = next(result for result in results if result["id"] == kind["ids"][0])
        assert kind["message"] == first["error"]


CONFIG = Configuration({"algorithm": {"name": "bootstrap", "num_particles": 4}, "seed": 0})


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
    assert manifest["config"] == CONFIG.values and manifest["config_hash"] == CONFIG.hash
    assert {"versions", "started"} <= set(manifest)


def test_results_are_taken_out_to_be_run_again(tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path, CONFIG)
    for name, run in (("a", failing("gone")), ("b", right), ("c", failing("gone"))):
        folder.append(result_of(Example(name, "?", "7"), run, seed=0))
    assert folder.failed == {"a", "c"} and folder.done == {"a", "b", "c"}
    folder.drop({"a"})
    assert folder.failed == {"c"} and [line["id"] for line in lines(tmp_path)] == ["b", "c"]
    folder.append(result_of(Example("a", "?", "7"), right, seed=0))
    again = EvaluationFolder(tmp_path, CONFIG)
    assert again.results == folder.results and again.failed == {"c"}


def duplicated(tmp_path: Path, *copies: dict[str, Any]) -> None:
    """Write a, b and c, and behind them copies with other values."""
    folder = EvaluationFolder(tmp_path, CONFIG)
    for name, run in (("a", right), ("b", wrong), ("c", failing("gone"))):
        folder.append(result_of(Example(name, "?", "7"), run, seed=0))
    by_name = {line["id"]: line for line in lines(tmp_path)}
    with (tmp_path / "results.jsonl").open("a") as file:
        for copy in copies:
            file.write(json.dumps(by_name[copy["id"]] | copy) + "\n")


@pytest.mark.parametrize(
    "copies",
    [
        [],
        [{"id": "a"}],
        [{"id": "a"}, {"id": "b"}, {"id": "c"}],
        [{"id": "b"}, {"id": "b"}],
        [{"id": "a", "seconds": 100.0}],
        [
            {
                "id": "b",
                "cost": {
                    "generated_tokens": 100,
                    "scored_tokens": 5,
                    "model_calls": 1,
                    "seconds": 9.0,
                },
            }
        ],
        [{"id": "c", "error": "RuntimeError: gone again"}],
    ],
)
def test_the_same_result_twice_counts_once(tmp_path: Path, copies: list[dict[str, Any]]) -> None:
    duplicated(tmp_path, *copies)
    folder = EvaluationFolder(tmp_path, CONFIG)
    assert [result["id"] for result in folder.results] == ["a", "b", "c"]
    assert folder.results[0]["seconds"] < 100 and folder.results[2]["error"].endswith("gone")
    assert folder.write_summary()["overall"]["num_problems"] == 3


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        ([{"id": "a", "answer": "8"}], "of 'a' in lines 1 and 4 of"),
        ([{"id": "b", "correct": True}], "of 'b' in lines 2 and 4 of"),
        ([{"id": "a"}, {"id": "a", "log_evidence": -1.0}], "of 'a' in lines 1 and 5 of"),
        ([{"id": "c", "error": None}], "of 'c' in lines 3 and 4 of"),
        ([{"id": "a", "error": "E: x"}], "of 'a' in lines 1 and 4 of"),
        ([{"id": "b", "seed": 1}], "of 'b' in lines 2 and 4 of"),
        ([{"id": "a", "num_particles": 9}], "of 'a' in lines 1 and 4 of"),
        (
            [{"id": "b", "seed": 1}, {"id": "a", "seed": 1}],
            "of 'b' (and of 1 more) in lines 2 and 4 of",
        ),
        ([{"id": "a", "reference": "8"}], "of 'a' in lines 1 and 4 of"),
        ([{"id": "a", "probability": 0.0}], "accepted: one line a question (take the others out)"),
    ],
)
def test_different_results_of_one_question_are_refused(
    tmp_path: Path, copies: list[dict[str, Any]], said: str
) -> None:
    duplicated(tmp_path, *copies)
    before = (tmp_path / "results.jsonl").read_bytes()
    with pytest.raises(InputError) as caught:
        EvaluationFolder(tmp_path, CONFIG)
    assert said in str(caught.value)
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_a_folder_is_of_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with lock_folder(path, "evaluation"):
        with pytest.raises(InputError, match="Another ablation is at work in this folder. Got '"):
            lock_folder(path, "ablation")
        with lock_folder(tmp_path / "other", "evaluation"):
            pass
    with pytest.raises(RuntimeError), lock_folder(path, "evaluation"):
        raise RuntimeError
    (path / ".lock").write_text("left by somebody")
    with lock_folder(path, "evaluation"):
        pass


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
    other = Configuration({"algorithm": {"name": "bootstrap", "num_particles": 8}, "seed": 0})
    with pytest.raises(InputError, match=r"Got algorithm.num_particles 8, which is 4 there\."):
        EvaluationFolder(tmp_path, other)
    here = Configuration({"b": {"c": 2}})
    assert here.changes_from({"a": 1, "b": {"c": 2}}) == ["a null, which is 1 there"]


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
    with pytest.raises(InputError, match="cannot be written"):
        lock_folder(tmp_path / name, "evaluation")


@pytest.mark.parametrize("in_flight", [1, 2, 8])
def test_what_is_done_is_never_run_again(in_flight: int) -> None:
    examples = [Example(f"a/{n}", "What is 3 + 4?", "7") for n in range(20)]
    missing = ["a/1", "a/3", "a/16", "a/17"]
    ran = list[str]()

    def run(example: Example, seed: int) -> Posterior:
        ran.append(example.id)
        return right(example, seed)

    done = {example.id for example in examples}.difference(missing)
    results = list(evaluate_missing(examples, run, 0, in_flight, done))
    assert ran == missing == [result["id"] for result in results]
    assert results == [result_of(e, right, seed_of(0, e.id)) for e in examples if e.id in missing]
