"""Sets of questions with known answers: MiniMath, sets on the hub, and files of JSON lines."""

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

from llmsmc.errors import InputError, LlmsmcError
from llmsmc.grading.grades import extract_answer
from llmsmc.models.minimath import datasets as minimath
from llmsmc.models.minimath.problem import LEVELS, Problem, draw_problem
from llmsmc.registry import DATASETS, FORM, is_reference
from llmsmc.storage.characters import one_line

_QUESTION: Final = ("question", "problem", "prompt")
_ANSWER: Final = ("answer", "extracted_groundtruth", "expected_answer")
_ID: Final = ("id", "unique_id", "name")
_FAMILY: Final = ("family", "subject", "type")
_MARKS: Final = re.compile(r"####|\\(?:f?boxed|fbox|framebox)(?![a-zA-Z])")  # of a whole solution
_LEVEL: Final = re.compile(r"Level ([0-9]+)")
_RANGE: Final = re.compile(r"(?=[0-9:])(?P<first>[0-9]{0,9})(?P<colon>:?)(?P<last>[0-9]{0,9})")


@dataclass(frozen=True)
class Example:
    """A question with its answer.

    Attributes:
        id: its name, the only one of that name in the set.
        question: the question.
        answer: the reference answer.
        level: how difficult it is, if known.
        family: the kind of question, if known.
    """

    id: str
    question: str
    answer: str
    level: int | str | None = None
    family: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Examples in order, with a name and a fingerprint of their content."""

    name: str
    fingerprint: str
    examples: tuple[Example, ...]

    def part(self, range: str | None = None, limit: int | None = None) -> "Dataset":
        """Return some of the examples, as the set that they belong to.

        Args:
            range: which of them, see `places`.
            limit: only so many of these, the first ones.

        Raises:
            InputError: the range has another form, or the set has no example there.
        """
        first, last = self.places(range)
        return replace(self, examples=self.examples[first - 1 : last][:limit])

    def places(self, range: str | None) -> tuple[int, int]:
        """Return the first and the last place of a range, counted from 1.

        Args:
            range: `FIRST:LAST`, both included, where either may be missing; or a single place.

        Raises:
            InputError: the range has another form, or the set has no example there.
        """
        count = len(self.examples)
        if range is None:
            return 1, count
        found = _RANGE.fullmatch(range) if isinstance(range, str) else None
        first = int(found["first"] or 1) if found else 0
        last = int(found["last"] or count) if found and found["colon"] else first
        if not 1 <= first <= min(last, count):
            raise InputError(
                f"Questions are chosen by their places, counted from 1. Got range {range!r} of "
                f"{count}; accepted: FIRST:LAST, FIRST: or :LAST, both included, or a single place."
            )
        return first, min(last, count)


def answers_of(examples: Iterable[Example]) -> dict[str, str]:
    """Return the answer to each question; of one that is asked twice, the last."""
    return {example.question: example.answer for example in examples}


def load(name_or_path: str, limit: int | None = None) -> Dataset:
    """Return a data set by name (`llmsmc.registry.DATASETS`), or that in a file.

    Args:
        name_or_path: a name; `package.module:Name` for one of one's own; or a path.
        limit: only so many examples, the first ones.

    Raises:
        InputError: there is no such set, it cannot be read from the hub, the file is not one, or
            a data set of one's own has no rows.
    """
    if name_or_path in DATASETS or is_reference(name_or_path) or _is_installed(name_or_path):
        return _named(name_or_path).part(limit=limit)
    if not _is_file(Path(name_or_path)):
        raise InputError(
            f"There is no such data set. Got {name_or_path!r}; accepted: "
            f"{', '.join((*DATASETS, *DATASETS.installed()))}, a .jsonl file of objects with a "
            f"question (or problem) and an answer, or rows of your own as {FORM}."
        )
    return load_file(name_or_path).part(limit=limit)


def _is_installed(name: str) -> bool:
    return name in DATASETS.installed() and not _is_file(Path(name))


def _named(name: str) -> Dataset:
    """Return a data set by name; the name may be of a data set, of rows, or of a function.

    Raises:
        InputError: it is nothing of the kind, or the function fails.
    """
    found = DATASETS.find(name)
    try:
        rows = found() if callable(found) else found
        rows = rows if isinstance(rows, Dataset) else list(rows)
    except LlmsmcError:
        raise
    except Exception as error:  # of whatever the function does
        reason = one_line(f"{type(error).__name__}: {error}", 300)
        raise InputError(
            f"A data set is rows, or a function without arguments that gives them. Got {name!r}, "
            f"which gives {reason}; accepted: objects with a question and an answer."
        ) from error
    if isinstance(rows, Dataset):
        return Dataset(name, rows.fingerprint, rows.examples)
    return dataset_of(name, rows)


def dataset_of(name: str, rows: Sequence[Any]) -> Dataset:
    """Return the data set of rows: `Example`s, or dicts with the fields that a file has.

    Raises:
        InputError: a row is something else, or there are none.
    """
    plain = [asdict(row) if isinstance(row, Example) else row for row in rows]
    plain = [dict(row) if isinstance(row, Mapping) else row for row in plain]
    for number, row in enumerate(plain, start=1):
        if not isinstance(row, dict):
            raise _no_object(f"{_shown(row)} at row {number} of {name}")
    numbered = ((number, f"row {number}", row) for number, row in enumerate(plain, start=1))
    examples = tuple(_examples(name, numbered))
    if not examples:
        raise InputError(f"The data set is empty. Got {name!r}; accepted: at least one row.")
    return Dataset(name, fingerprint(json.dumps(plain, default=str)), examples)


def _minimath(name: str) -> Dataset:
    return Dataset(
        name,
        name,
        tuple(
            Example(each.id, each.question, each.answer, each.level, each.family)
            for each in minimath.load(name)
        ),
    )


minimath_train = partial(_minimath, minimath.TRAIN)
minimath_dev = partial(_minimath, minimath.DEV)
minimath_500 = partial(_minimath, minimath.TEST)


def load_file(name: str) -> Dataset:
    """Return the data set in a file of JSON lines.

    Raises:
        InputError: there is no such file, or it is not one.
    """
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"The data set {name!r} cannot be read: {error}. Accepted: a .jsonl file."
        ) from error
    examples = tuple(_examples(path.stem, _rows(path, text)))
    if not examples:
        raise InputError(f"The data set is empty. Got {name!r}; accepted: JSON lines.")
    return Dataset(path.name, fingerprint(text), examples)


def fingerprint(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def sample_problem(level: int, seed: int) -> Problem:
    """Draw a problem of the development set.

    Raises:
        InputError: there is no such level.
    """
    if level not in LEVELS:
        accepted = f"{min(LEVELS)} to {max(LEVELS)}"
        raise InputError(f"Problems have a level. Got {level!r}; accepted: {accepted}.")
    random = Random(f"sample/{level}/{seed}")
    while True:
        problem = draw_problem(random, level, id=f"sample/{level}/{seed}")
        if minimath.set_of(problem.question) == minimath.DEV:
            return problem


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name of a file can be like that
        return False


_Row = tuple[int, str, dict[str, Any]]
"""The number of a row, its place in words, and its content."""


def _rows(path: Path, text: str) -> Iterator[_Row]:
    """Yield the rows of a file of JSON lines."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path.name}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            got = f"no JSON at character {error.pos + 1} of {where} ({error.msg})"
            raise _no_object(got) from error
        except (ValueError, RecursionError) as error:
            raise _no_object(f"something else at {where} ({error})") from error
        if not isinstance(row, dict):
            raise _no_object(f"{_shown(row)} at {where}")
        yield number, where, row


def _no_object(got: str) -> InputError:
    return InputError(
        f"A data set is a file of JSON lines. Got {got}; accepted: an object a line, with a "
        "question (or problem) and an answer (or solution)."
    )


def _examples(name: str, rows: Iterable[_Row]) -> Iterator[Example]:
    """Yield the examples in rows; those without an id are named by the set and their number."""
    seen: set[str] = set()
    for number, where, row in rows:
        example = _example(row, f"{name}/{number}", where)
        if example.id in seen:
            raise InputError(f"Each example has an id of its own. Got {example.id!r} at {where}.")
        seen.add(example.id)
        yield example


def _example(row: dict[str, Any], default_id: str, where: str) -> Example:
    lowered = {key.lower(): value for key, value in row.items()}
    question, answer = _first(lowered, _QUESTION), _first(lowered, _ANSWER)
    is_solution = isinstance(answer, str) and _MARKS.search(answer) is not None
    if answer is None or answer == "":
        answer, is_solution = lowered.get("solution", answer), True
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        answer = None
    if not isinstance(question, str) or answer is None:
        raise InputError(
            "An example has a question (or problem) and an answer (or solution). Got "
            f"{_fields(row)} at {where}; accepted: a text as question, a text or a number as "
            "answer."
        )
    reference = _answer_in(str(answer)) if is_solution else str(answer).strip()
    if not reference:
        raise InputError(
            f"No answer can be read at {where}. Got {str(answer)[-60:]!r} at its end; accepted: an "
            "answer, or a solution with its answer in \\boxed{...} or behind #### in a line."
        )
    name = _first(lowered, _ID)
    family = _first(lowered, _FAMILY)
    return Example(
        id=default_id if name is None else str(name),
        question=question,
        answer=reference,
        level=_level(lowered.get("level")),
        family=family if isinstance(family, str) else None,
    )


def _fields(row: dict[str, Any]) -> str:
    """Return the first fields of a row as they are named in an error."""
    fields = [f"{one_line(key, 30)} = {_shown(value)}" for key, value in islice(row.items(), 6)]
    return ", ".join(fields + ["..."] * (len(row) > 6)) or "no fields"


def _shown(value: Any) -> str:
    return one_line(reprlib.repr(value), 60)


def _answer_in(solution: str) -> str:
    """Return the answer of a reference solution, empty if it has none.

    A last line behind hashes is the answer and no heading, even if it has words.
    """
    last = solution.rpartition("####")[2].strip() if "####" in solution else ""
    return extract_answer(solution) or ("" if "\n" in last else last)


def _level(value: Any) -> int | str | None:
    """Return a level as a number where it is one: mirrors of MATH write 5 and "Level 5"."""
    if isinstance(value, str) and (match := _LEVEL.fullmatch(value)):
        return int(match[1])
    return value if isinstance(value, int | str) else None


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
