"""The texts of an evaluation: which are kept, how they are read, and that nothing is lost."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.evaluation.configuration import Configuration
from llmsmc.evaluation.datasets import Example
from llmsmc.evaluation.folder import EvaluationFolder
from llmsmc.evaluation.runner import result_of
from llmsmc.evaluation.solutions import FILE, WHICH, Keeper, append_solutions, read_solutions
from llmsmc.results.posterior import Posterior
from tests.solutions import answering, posterior

EXAMPLE = Example("a/1", "What is 3 + 4?", "7")
CONFIG = Configuration({"algorithm": {"name": "bootstrap"}, "seed": 0})


def solved(example: Example, seed: int) -> Posterior:
    found = posterior(answering("8", "7", "7", None), [1, 2, 3, 1], num_cut_off=1)
    causes = {"why_no_answer": [None, None, None, "max_steps"]}
    return replace(found, metadata=causes)


def kept(which: str, run: Any = solved) -> Any:
    keeper = Keeper(which)
    try:
        keeper.recording(run)(EXAMPLE, 5)
    except DegenerateWeightsError:
        pass
    found = keeper.take(EXAMPLE.id)
    assert keeper.take(EXAMPLE.id) is None
    return found


def named(name: str, which: str = "all", **changes: Any) -> Any:
    return {**kept(which), "id": name, **changes}


def texts(found: Any) -> list[str]:
    return ["".join(each["steps"]) for each in found["solutions"]]


def test_the_selected_solution_or_all_or_none() -> None:
    one, every = kept("selected"), kept("all")
    assert (one["id"], one["seed"], one["question"]) == ("a/1", 5, EXAMPLE.question)
    assert texts(one) == ["First step.\n\n\\boxed{7}"] and one["selected"] == 0
    assert one["solutions"][0]["weight"] == pytest.approx(3 / 7)
    assert every["selected"] == 2 and len(texts(every)) == 4
    assert [each["why_no_answer"] for each in every["solutions"]] == [None] * 3 + ["max_steps"]
    assert kept("none") is None
    with pytest.raises(InputError, match="Got 'some'; accepted: .*'selected'"):
        Keeper("some")


def test_the_rule_of_selection_says_which_one_is_kept() -> None:
    for answer, text in (("8", "\\boxed{8}"), (None, "Nothing."), ("7", "\\boxed{7}")):

        def chosen(example: Example, seed: int, answer: str | None = answer) -> Posterior:
            said = {"selection": "argmax", "selected": {"argmax": answer}}
            return replace(solved(example, seed), metadata=said)

        assert texts(kept("selected", chosen)) == [f"First step.\n\n{text}"]


def test_solutions_of_a_run_that_died_are_kept() -> None:
    def dead(example: Example, seed: int) -> Posterior:
        raise DegenerateWeightsError("dead", posterior(answering("7", "8"), [0, 0]))

    assert [each["weight"] for each in kept("all", dead)["solutions"]] == [0.0, 0.0]


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path, CONFIG)
    for which, name in zip(WHICH, ("a/1", "a/2", "a/3"), strict=True):
        result = result_of(replace(EXAMPLE, id=name), solved, seed=5)
        folder.append(result, None if which == "none" else named(name, which))
    append_solutions(tmp_path, named("a/2", "selected", seed=6))  # run again
    read = read_solutions(tmp_path)
    assert list(read) == ["a/1", "a/2"] and read["a/2"]["seed"] == 6
    assert json.loads(json.dumps(kept("selected"))) == read["a/1"]
    lines = gzip.open(tmp_path / FILE, "rt").read().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a/1", "a/2", "a/2"]


def test_a_line_that_was_not_finished_is_cut_off(tmp_path: Path) -> None:
    append_solutions(tmp_path, kept("all"))
    path = tmp_path / FILE
    whole = path.read_bytes()
    append_solutions(tmp_path, named("a/2"))
    both = path.read_bytes()
    for end in range(len(whole), len(both), 50):
        path.write_bytes(both[:end])
        assert list(read_solutions(tmp_path)) == ["a/1"]
        EvaluationFolder(tmp_path, CONFIG)
        assert path.read_bytes() == whole
        append_solutions(tmp_path, named("a/3"))
        assert list(read_solutions(tmp_path)) == ["a/1", "a/3"]
    path.write_bytes(b"")
    assert read_solutions(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        gzip.compress(b"nonsense\n", mtime=0),
        gzip.compress(b"[1]\n", mtime=0),
        gzip.compress(b'{"id": "a/1", "solutions": []}\n', mtime=0),
        gzip.compress(b'{"id":"a","seed":0,"question":"?","selected":0,"solutions":[]}\n', mtime=0),
        gzip.compress(b"\xff\n", mtime=0),
    ],
)
def test_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    append_solutions(tmp_path, kept("selected"))
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + content)
    with pytest.raises(InputError, match="Got something else as line 2 of ") as caught:
        read_solutions(tmp_path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 900
    with pytest.raises(InputError, match="This folder has no solutions. Got '"):
        read_solutions(tmp_path / "nowhere")


def test_much_is_read_in_time_proportional_to_it(tmp_path: Path) -> None:
    line = {**kept("all"), "question": "x" * 200_000}
    packed = gzip.compress((json.dumps(line) + "\n").encode(), mtime=0)
    (tmp_path / FILE).write_bytes(packed * 50 + packed[:-3])
    assert len(read_solutions(tmp_path)["a/1"]["question"]) == 200_000
