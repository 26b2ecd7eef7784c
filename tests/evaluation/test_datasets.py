"""Sets of questions: the fixed ones, and files of every usual layout."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from llmsmc.errors import InputError
from llmsmc.evaluation import datasets
from llmsmc.evaluation.datasets import Example, load, sample_problem
from llmsmc.models.minimath import datasets as minimath
from llmsmc.models.minimath.problem import Problem


def written(tmp_path: Path, *rows: Any) -> str:
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def test_minimath(monkeypatch: pytest.MonkeyPatch) -> None:
    problems: tuple[Problem, ...] = tuple(islice(minimath.minimath_train(), 3))
    monkeypatch.setattr(minimath, "load", {minimath.DEV: problems}.__getitem__)
    found = load("minimath-dev", limit=2).examples
    first = problems[0]
    assert len(found) == 2
    assert found[0] == Example(first.id, first.question, first.answer, first.level, first.family)


def test_layouts_of_files(tmp_path: Path) -> None:
    found = load(
        written(
            tmp_path,
            {"question": "a?", "answer": "She has 3.\n#### 1,000"},
            "",
            {"problem": "b?\u2028c", "answer": "5", "level": 3, "unique_id": "x/1", "subject": "S"},
            {"Problem": "c?", "Answer": 27.0, "ID": 0, "level": "Level 5"},
            {"problem": "d?", "answer": r"so \boxed{2}", "type": "T"},
            {"problem": "e?", "solution": r"so \boxed{3}", "extracted_groundtruth": "04"},
            {"problem": "f?", "solution": r"so \boxed{3}", "level": "hard"},
        )
    )
    assert found.examples == (
        Example("set/1", "a?", "1,000"),
        Example("x/1", "b?\u2028c", "5", 3, "S"),
        Example("0", "c?", "27.0", 5),
        Example("set/5", "d?", "2", None, "T"),
        Example("set/6", "e?", "04"),
        Example("set/7", "f?", "3", "hard"),
    )


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"solution": r"so \boxed 2"}, "2"),
        ({"solution": r"so $\boxed\frac12$."}, r"\frac12"),
        ({"solution": r"so \boxed7, as \boxed{} was asked for"}, "7"),
        ({"answer": r"so \fbox{7}"}, "7"),
        ({"answer": "", "solution": r"\boxed{7}"}, "7"),
        ({"answer": "So:\n#### Sum\n#### **7**"}, "7"),
        ({"answer": "So:\n#### 7 clips"}, "7"),
        ({"answer": "So:\n#### Monday"}, "Monday"),
        ({"answer": "Monday"}, "Monday"),
        ({"answer": "your answer"}, "your answer"),
        ({"answer": 0}, "0"),
    ],
)
def test_the_answer_of_a_row(tmp_path: Path, row: dict[str, Any], answer: str) -> None:
    assert load(written(tmp_path, {"question": "a?", **row})).examples[0].answer == answer


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    one = load(written(tmp_path, {"question": "a?", "answer": 1})).fingerprint
    two = load(written(tmp_path, {"question": "a?", "answer": 2})).fingerprint
    assert one != two
    assert load(written(tmp_path, {"question": "a?", "answer": 1})).fingerprint == one


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty"),
        (["{"], "Got no JSON at character 2 of line 1 of set.jsonl (Expecting"),
        ([{"question": "a?", "answer": 1}, '{"question": "a'], "at character 14 of line 2 of"),
        (["[" * 100_000], "at line 1 of set.jsonl (maximum recursion"),
        (["[1]"], "Got [1] at line 1 of set.jsonl; accepted: an object a line"),
        ([{"answer": 1}], "Got answer = 1 at line 1"),
        ([{}], "Got no fields at line 1"),
        ([{"problem": 17, "answer": None}], "Got problem = 17, answer = None at line 1"),
        ([{"x\x1b" * 99: 1} | {"a": "b" * 999}], ", a = 'bbbbbbbbbbbb...bbbbbbbbbbbbb' at line 1"),
        ([{name: 0 for name in "abcdefgh"}], "e = 0, f = 0, ... at line 1"),
        ([{"question": "a?"}], "a question (or problem) and an answer"),
        ([{"question": 5, "answer": 1}], "a question (or problem) and an answer"),
        ([{"question": "a?", "answer": [1]}], "accepted: a text as question"),
        ([{"question": "a?", "answer": True}], "a text or a number as answer"),
        ([{"question": "a?", "solution": [1]}], "accepted: a text as question"),
        (
            [{"question": "a?", "answer": ""}],
            "No answer can be read at line 1 of set.jsonl. Got ''",
        ),
        ([{"question": "a?", "answer": " "}], "No answer can be read"),
        ([{"question": "a?", "answer": r"\boxed{}"}], "accepted: an answer, or a solution"),
        ([{"question": "a?", "solution": "Nothing."}], "Got 'Nothing.' at its end"),
        ([{"question": "a?", "answer": "#### Conclusion\nIt is so."}], "or behind #### in a line"),
        ([{"id": 1, "question": "a?", "answer": 1}] * 2, "an id of its own. Got '1' at line 2"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(written(tmp_path, *rows))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["minimath-501", "nowhere.jsonl", "x" * 5000, "a\x00b", "."])
def test_unknown_sets(name: str) -> None:
    with pytest.raises(InputError, match="accepted: minimath-train, minimath-dev, minimath-500"):
        load(name)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load(str(tmp_path / "a.jsonl"))


def test_sample_problems() -> None:
    for level in (1, 5):
        problem = sample_problem(level, seed=3)
        assert problem.level == level
        assert minimath.set_of(problem.question) == minimath.DEV
        assert problem == sample_problem(level, seed=3) != sample_problem(level, seed=4)
    with pytest.raises(InputError, match="Got 6; accepted: 1 to 5"):
        datasets.sample_problem(6, seed=0)


@pytest.mark.parametrize(
    ("given", "limit", "places"),
    [
        (None, None, "12345"),
        (None, 2, "12"),
        ("3:", None, "345"),
        (":2", None, "12"),
        ("2:4", None, "234"),
        ("2:4", 2, "23"),
        ("5", None, "5"),
        (":", None, "12345"),
        ("4:99", None, "45"),
    ],
)
def test_a_part_of_a_set(given: str | None, limit: int | None, places: str, tmp_path: Path) -> None:
    """Examples keep their names, and the part the name and the fingerprint of the set."""
    rows = [{"question": f"{n}?", "answer": n} for n in range(1, 6)]
    whole = load(written(tmp_path, *rows))
    part = whole.part(given, limit)
    assert [each.id for each in part.examples] == [f"set/{place}" for place in places]
    assert (part.name, part.fingerprint) == (whole.name, whole.fingerprint)


@pytest.mark.parametrize("given", ["", "0", "0:", "6:", "4:3", "a:", "1:2:3", "-2:", "1.5", 3])
def test_places_that_are_none(given: Any, tmp_path: Path) -> None:
    whole = load(written(tmp_path, *({"question": f"{n}?", "answer": n} for n in "12345")))
    with pytest.raises(InputError, match="by their places.*of 5; accepted: FIRST:LAST"):
        whole.part(given)


GSM8K = [
    ("Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes $<<9*2=18>>18.\n#### 18", "18"),
    ("It takes 2/2=<<2/2=1>>1 bolt.\n#### 1,234", "1,234"),
    ("So $<<5*.5=2.5>>2.5 each\n####-2.5", "-2.5"),
    ("A line.\r\n#### 70000\r\n", "70000"),
    ("On one line. #### 3", "3"),
    ("#### 8 of 10 done\nso <<1+1=2>>2\n#### 2", "2"),
]


@pytest.mark.parametrize(("answer", "reference"), GSM8K)
def test_answers_as_gsm8k_has_them(answer: str, reference: str, tmp_path: Path) -> None:
    row = {"question": "a?", "answer": answer, "idx": 0}
    assert load(written(tmp_path, row)).examples[0].answer == reference
