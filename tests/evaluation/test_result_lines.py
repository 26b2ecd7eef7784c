"""Files of an evaluation of any content: read, or refused with file and line, and nothing lost."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmsmc.ablations.page import index_of, read_reports
from llmsmc.errors import InputError
from llmsmc.evaluation.configuration import Configuration
from llmsmc.evaluation.datasets import Example
from llmsmc.evaluation.folder import EvaluationFolder
from llmsmc.evaluation.runner import result_of, summarize
from llmsmc.solving.settings import SELECTIONS
from llmsmc.storage.json_files import dumps
from tests.hostile import VALUES, mutants
from tests.solutions import answering, posterior

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = Configuration({"algorithm": {"name": "bootstrap", "num_particles": 4}, "seed": 0})
GOOD = json.loads(
    dumps(
        result_of(
            Example("a/1", "What is 3 + 4?", "7", level=1),
            lambda example, seed: posterior(answering("7", "8", None), [2, 1, 1], num_cut_off=1),
            seed=0,
        )
        | {"selected": dict.fromkeys(SELECTIONS, True)}
    )
)


def line(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode() + b"\n"


def lacking(key: str) -> bytes:
    return json.dumps({name: each for name, each in GOOD.items() if name != key}).encode() + b"\n"


LINES: dict[str, bytes] = {
    "nothing": b"\n",
    "a space": b" \n",
    "words": b"nonsense\n",
    "half": line()[:50] + b"\n",
    "a line that lost its start": line()[50:],
    "two in one": line()[:-1] + line(),
    "zeros": b"\0" * 40 + b"\n",
    "Latin 1": line(answer="x").replace(b'"x"', b'"\xe9"'),
    "a list": b"[1]\n",
    "a number": b"7\n",
    "null": b"null\n",
    "an empty object": b"{}\n",
    "no id": lacking("id"),
    "an id twice": line()[:-2] + b', "id": "a/2"}\n',
    "NaN": line().replace(b'"probability": 0.5', b'"probability": NaN'),
    "infinity": line(seconds=math.inf),
    "too large": line(seconds=1).replace(b'"seconds": 1,', b'"seconds": 1e999,'),
    "deep": b"[" * 50_000 + b"]" * 50_000 + b"\n",
    "5000 digits": line(note=0).replace(b'"note": 0', b'"note": ' + b"9" * 5000),
    "an id that is a number": line(id=1),
    "an id that is a list": line(id=["a"]),
    "a level that is a list": line(level=[1]),
    "correct in words": line(correct="yes"),
    "no verdict": lacking("correct"),
    "a grading that is a number": line(grading=1),
    "a probability above 1": line(probability_correct=1.5),
    "a probability below 0": line(probability_correct=-0.1),
    "a probability of nothing": line(probability_correct=None),
    "no cost": lacking("cost"),
    "a cost in words": line(cost="much"),
    "a cost of nothing": line(cost={}),
    "tokens in words": line(cost={"generated_tokens": "7", "model_calls": 1}),
    "tokens beyond measure": line(cost={"generated_tokens": 10**400, "model_calls": 1}),
    "seconds below 0": line(seconds=-1.0),
    "seconds beyond measure": line(seconds=1e300),
    "no particles": line(num_particles=0),
    "particles below 0": line(num_particles=-4, truncated=-4),
    "more truncated than there are": line(truncated=9),
    "truncated of none": line(num_particles=None),
    "an error that is a list": line(error=["x"]),
    "rules in a list": line(selected=["mode"]),
    "rules that are no truths": line(selected={"mode": 1}),
    "failures in a list": line(cost=GOOD["cost"] | {"failures": ["400"]}),
    "failures that are no numbers": line(cost=GOOD["cost"] | {"failures": {"400": "many"}}),
    "more right than there are": line(num_right=9),
    "right below 0": line(num_right=-1),
    "causes in a list": line(no_answer=["max_steps"]),
    "more causes than there are": line(no_answer={"max_steps": 4, "no_answer": 1}),
    "causes below 0": line(no_answer={"max_steps": -1, "no_answer": 1}),
    "a cause that is a number": line(why_no_answer=3),
    "a cost in part": line(cost={"generated_tokens": 1, "model_calls": 1}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    EvaluationFolder(tmp_path, CONFIG)
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (line()[:40] + b"\n", "at line 2 of .*: it is no JSON at character [0-9]+ .Unterm"),
        (b"\x1b[31m\xff\n", "at line 2 of .*: it is no UTF-8 at byte 6"),
        (line(probability=7), "probability is 7; accepted: 0 to 1[.] "),
        (line(probability=1 + 1e-8), "probability is 1.00000001; accepted: 0 to 1[.] "),
    ],
)
def test_what_is_wrong_with_a_line_is_said(folder: Path, wrong: bytes, said: str) -> None:
    (folder / "results.jsonl").write_bytes(line(id="a/0") + wrong)
    with pytest.raises(InputError, match=said):
        EvaluationFolder(folder, CONFIG)


def test_the_rounding_of_a_probability_is_none(folder: Path) -> None:
    (folder / "results.jsonl").write_bytes(line(probability=1 + 1e-10))
    assert EvaluationFolder(folder, CONFIG).done == {"a/1"}


@pytest.mark.parametrize("case", LINES)
def test_a_bad_line_is_named_and_nothing_is_lost(folder: Path, case: str) -> None:
    path = folder / "results.jsonl"
    content = line(id="a/0") + LINES[case] + line(id="a/2")
    path.write_bytes(content)
    with pytest.raises(InputError, match="at line 2 of ") as caught:
        EvaluationFolder(folder, CONFIG)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 900
    assert path.read_bytes() == content
    path.write_bytes(content.replace(LINES[case], b"", 1))  # as the error says
    assert EvaluationFolder(folder, CONFIG).done == {"a/0", "a/2"}


@pytest.mark.parametrize("length", [*range(1, 400, 37), len(line()) - 2])
def test_a_last_line_that_was_not_finished_is_cut_off(folder: Path, length: int) -> None:
    path = folder / "results.jsonl"
    path.write_bytes(line(id="a/0") + line()[:length])
    again = EvaluationFolder(folder, CONFIG)
    assert again.done == {"a/0"} and path.read_bytes() == line(id="a/0")
    again.append(GOOD)
    assert EvaluationFolder(folder, CONFIG).done == {"a/0", "a/1"}


def test_a_last_line_that_lacks_its_end_alone_is_kept(folder: Path) -> None:
    path = folder / "results.jsonl"
    path.write_bytes(line(id="a/0") + line()[:-1])
    EvaluationFolder(folder, CONFIG).append(GOOD | {"id": "a/2"})
    assert EvaluationFolder(folder, CONFIG).done == {"a/0", "a/1", "a/2"}


def test_zeros_at_the_end_are_cut_off(folder: Path) -> None:
    (folder / "results.jsonl").write_bytes(line() + b"\0" * 4096)
    assert EvaluationFolder(folder, CONFIG).done == {"a/1"}


def test_lines_of_windows_and_of_older_versions(folder: Path) -> None:
    older = lacking("grading").replace(b"\n", b"\r\n")
    (folder / "results.jsonl").write_bytes(older + line(id="a/2", level="high", more=[1]))
    assert EvaluationFolder(folder, CONFIG).done == {"a/1", "a/2"}


def test_a_change_anywhere_is_refused_or_does_no_harm(folder: Path) -> None:
    accepted = 0
    for result in mutants(GOOD, 250):
        text = json.dumps(result).encode()
        (folder / "results.jsonl").write_bytes(text + b"\n" + line(id="a/2"))
        try:
            results = EvaluationFolder(folder, CONFIG).results
        except InputError as error:
            assert "line 1 of" in str(error)
        else:
            dumps(summarize(results))
            accepted += 1
    assert 25 < accepted < 200


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("change", [as_pipe, as_folder, as_link_to_itself])
@pytest.mark.parametrize("name", ["manifest.json", "results.jsonl"])
def test_files_that_are_none(folder: Path, name: str, change: Callable[[Path], None]) -> None:
    change(folder / name)
    with pytest.raises(InputError, match=str(folder)):
        EvaluationFolder(folder, CONFIG)


DEEP = "[" * 2000 + "]" * 2000
MANIFESTS = {
    "nothing": "",
    "half": '{"config": {"seed"',
    "words": "nonsense",
    "a list": "[]",
    "null": "null",
    "a number": "3",
    "an empty object": "{}",
    "a configuration in words": '{"config": "x"}',
    "a configuration in a list": '{"config": [1]}',
    "no configuration": '{"config": null}',
    "a key twice": '{"config": {"seed": 0}, "config": {"seed": 1}}',
    "NaN": '{"config": {"seed": NaN}}',
    "5000 digits": '{"config": {"seed": ' + "9" * 5000 + "}}",
    "deep": '{"config": {"seed": ' + DEEP + "}}",
    "something behind": '{"config": {}} {}',
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_of_any_content(folder: Path, case: str) -> None:
    path = folder / "manifest.json"
    (folder / "results.jsonl").write_bytes(line())
    path.write_text(MANIFESTS[case])
    with pytest.raises(InputError, match="not the manifest") as caught:
        EvaluationFolder(folder, CONFIG)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 900
    assert path.read_text() == MANIFESTS[case]
    assert (folder / "results.jsonl").read_bytes() == line()


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"\0" * 9, b'{"config": "\xe9"}'])
def test_manifests_that_are_no_text(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="not the manifest"):
        EvaluationFolder(folder, CONFIG)


def test_manifests_of_others(folder: Path) -> None:
    """What differs is said, shortened and in characters that can be seen."""
    for config in mutants(CONFIG, 200, (*VALUES, {"b": "x" * 9999}, "\x1b[2J", "x" * 9999)):
        (folder / "manifest.json").write_text(json.dumps({"config": config}))
        with pytest.raises(InputError) as caught:
            EvaluationFolder(folder, CONFIG)
            raise InputError("the same")
        assert len(str(caught.value)) < 2500 and "\x1b" not in str(caught.value)


REPORT = json.loads((ROOT / "docs" / "ablations" / "link.json").read_text())


def test_reports_of_any_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    accepted = 0
    texts = [*MANIFESTS.values(), *(json.dumps(each) for each in mutants(REPORT, 200))]
    for text in texts:
        path.write_text(text)
        try:
            index_of(read_reports(tmp_path))
        except InputError as error:
            assert str(path) in str(error)
        else:
            accepted += 1
    assert 5 < accepted < 100
