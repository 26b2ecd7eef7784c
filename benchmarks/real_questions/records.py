"""Records: cells, kept in the project without the texts of the questions.

Cells that are whole have records, and evaluations from their first result on: the page leaves out
what is not whole, and whoever brings it back goes on with it.

The record of a cell is `records/WORLD/CELL.jsonl.gz`, lines of JSON that are compressed. The first
line names the cell and has a digest of all that follows; the second one is about the whole cell;
the others have what the page reads and what a later reward needs, one question a line:

| cell | about it | a line |
| --- | --- | --- |
| an evaluation | its manifest | the result, the answers and weights of the solutions |
| samples | the configuration | tokens, answers, ends of steps, log-probabilities |
| scores-REWARD | a digest of the tokens of the samples | the log-odds of one solution |
| quantized-KIND | its document | - |

Paths lose their folders. Of texts it is kept which of the solutions of a question have the same
first step (`first`), and which have the same steps (`whole`), as numbers from 0. Of log-
probabilities the mean over each step is kept, with the last token by itself, which may be the end
of the text: what the policy says of its own steps is a mean over their tokens.

A record is brought back as the cell that it was of. Texts are decoded from the tokens of samples;
where these are unknown, numbers stand for texts.
"""

import gzip
import hashlib
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from benchmarks.real_questions.outcomes import of_evaluation, read_samples
from benchmarks.real_questions.plan import CELLS, LAWS, OTHERS, World
from benchmarks.real_questions.running import Job, training_of
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import load_file
from llmsmc.evaluation.result_lines import ResultLine
from llmsmc.evaluation.solutions import FILE, append_solutions, read_solutions
from llmsmc.models.reasoning.cutting import CutSolution
from llmsmc.solving import loading
from llmsmc.storage.json_files import dumps, unwritable, write_json
from llmsmc.storage.strict_files import loads, read_bytes, write_bytes
from llmsmc.training.labels import name_of
from llmsmc.training.lines import Lines, Row, read_rows
from llmsmc.training.samples import is_solution

RECORDS: Final = Path(__file__).resolve().parent / "records"

_ENDING: Final = ".jsonl.gz"
_SAMPLES: Final = ("samples", "samples-larger")
_RESULT: Final = [key for key in ResultLine.__annotations__ if key in ResultLine.__required_keys__]
_COSTS: Final = (
    "generated_tokens",
    "scored_tokens",
    "model_calls",
    "reward_positions",
    "seconds",
    "policy_seconds",
)
_OF_WEIGHTS: Final = 12  # digits: votes call weights tied that differ by less than one in 10⁹
_FOLDERS: Final = re.compile(r"(^|:)/(?!/)[^\n]*/")

Kept = tuple[Row, list[Row]]
"""What is said of a whole cell, and its lines."""


def keep(folder: Path, world: World, records: Path) -> Iterator[str]:
    """Write the record of each cell of a world, and yield the name of the cell.

    A cell that is not whole does not replace the record of as many questions, or more.

    Args:
        folder: the folder of the world.
        world: its questions.
        records: the folder of all records.

    Raises:
        InputError: the files of a cell are broken, or a record cannot be written.
    """
    for name, is_whole, (about, rows) in _cells(folder, world.count):
        path = _path(records, world.name, name)
        if not is_whole and path.exists() and len(read(path)[1]) >= len(rows):
            continue
        rest = "".join(f"{dumps(row)}\n" for row in (about, *rows)).encode()
        head = f"{dumps({'cell': name, 'digest': _digest(rest)})}\n".encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, gzip.compress(head + rest, mtime=0))
        except OSError as error:
            raise unwritable(path, error) from error
        yield name


def has_any(records: Path, worlds: Iterable[str]) -> bool:
    """Return whether any cell of these worlds has a record."""
    return any((records / world).glob(f"*{_ENDING}") for world in worlds)


def read(path: Path) -> Kept:
    """Return what is kept of a cell.

    Raises:
        InputError: the file is not as it was written.
    """
    try:
        head, _, rest = gzip.decompress(read_bytes(path)).partition(b"\n")
        name = path.name.removesuffix(_ENDING)
        if loads(head) != {"cell": name, "digest": _digest(rest)}:
            raise ValueError(f"its first line is not that of {name} with these lines")
        about, *rows = (loads(line) for line in rest.splitlines())
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"A record is read as it was written. Got {str(path)!r}: {error}. Accepted: the file "
            "of the project, or one that the command keep has written anew."
        ) from error
    return about, rows


@dataclass(frozen=True)
class Texts:
    """What records leave out.

    Attributes:
        job: where the questions and the policy are; without one, names stand for questions and
            numbers for steps.
    """

    job: Job | None = None

    def question(self, name: str) -> str:
        """Return a question by its id.

        Raises:
            InputError: the data set does not have it.
        """
        if self.job is None:
            return name
        if name not in self._questions:
            raise InputError(
                "The questions of records are those of the data set. Got "
                f"{str(self.job.questions)!r} without {name!r}; accepted: the file on which the "
                "cells were run."
            )
        return self._questions[name]

    def cut(self, row: Row) -> list[CutSolution]:
        """Return the solutions in the line of a question, in steps.

        Raises:
            InputError: the policy is not the one that has written them.
        """
        token_ids, ends = row["token_ids"], row["step_ends"]
        if self.job is None:
            marks = zip(token_ids, ends, row["first"], row["whole"], strict=True)
            return [_marked(ids, stops, *numbers) for ids, stops, *numbers in marks]
        found = self._cut(token_ids)
        if [list(each.step_ends) for each in found] != ends:
            raise InputError(
                "The tokens of records are decoded by the policy that has written them. Got "
                f"{self.job.policy!r}, of which those for {row['id']!r} are other steps; accepted: "
                "the policy of the cells."
            )
        return found

    @cached_property
    def _questions(self) -> Mapping[str, str]:
        assert self.job is not None
        return {each.id: each.question for each in load_file(str(self.job.questions)).examples}

    @cached_property
    def _cut(self) -> Callable[[Sequence[Sequence[int]]], list[CutSolution]]:
        assert self.job is not None
        training = training_of(self.job, "samples")
        return training.sampling(loading.load_policy(training.settings)).cut

    def config(self, found: Any) -> Any:
        """Return a configuration with the paths of the models."""
        if self.job is None:
            return found
        models = (self.job.policy, self.job.larger, *self.job.rewards.values())
        paths = {_without_folders(path): path for path in models if path is not None}
        return _mapped(found, lambda text: paths.get(text, text))


def bring(records: Path, world: str, folder: Path, texts: Texts) -> Iterator[str]:
    """Put the cells of a world back that have records; yield a line on each.

    A cell that is there, even begun, is left alone. Scores are brought to the samples that they
    are of.

    Args:
        records: the folder of all records.
        world: the name of the world.
        folder: its folder.
        texts: what records leave out.

    Raises:
        InputError: a record is broken, the texts do not belong to it, or nothing can be written.
    """
    for name in (*OTHERS, *CELLS):
        path = _path(records, world, name)
        if not path.exists():
            continue
        about, rows = read(path)
        target = _target(folder, name)
        if target.exists():
            yield f"{name}: left alone, since it is there"
        elif name.startswith("scores-") and about["samples"] != _samples_in(target.parent):
            yield f"{name}: left out, since these are scores of other samples"
        else:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                _bring(target, name, (about, rows), texts)
            except OSError as error:
                raise unwritable(target, error) from error
            yield f"{name}: brought"


@contextmanager
def brought(records: Path, worlds: Iterable[str]) -> Iterator[Path]:
    """Give a folder with all cells that have records, in which numbers stand for texts."""
    with tempfile.TemporaryDirectory(prefix="llmsmc-") as work:
        for world in worlds:
            for _ in bring(records, world, Path(work) / world, Texts()):
                pass
        yield Path(work)


def _path(records: Path, world: str, name: str) -> Path:
    return records / world / f"{name}{_ENDING}"


def _target(folder: Path, name: str) -> Path:
    """Return the folder or the file of a cell."""
    if name in LAWS:
        return folder / f"{name}.json"
    return folder / "samples" / f"{name}.jsonl" if name.startswith("scores-") else folder / name


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _cells(folder: Path, count: int) -> Iterator[tuple[str, bool, Kept]]:
    """Yield the name of each cell, whether it is whole, and what is kept of it."""
    for name in _SAMPLES:
        samples = read_samples(folder / name, count)
        if samples is None or not samples.cut:
            continue
        yield name, True, _of_samples(folder / name)
        for reward in samples.scores if name == "samples" else ():
            scores = f"scores-{reward}"
            about = {"samples": _samples_in(folder / name)}
            rows = [_of_scores(row) for row in read_rows(_target(folder, scores))]
            yield scores, True, (about, rows)
    for name in LAWS:
        if _target(folder, name).exists():
            yield name, True, (json.loads(_target(folder, name).read_text()), [])
    for name, cell in CELLS.items():
        is_whole = of_evaluation(folder / name, cell, count) is not None
        kept = _of_evaluation(folder / name)
        if is_whole or kept[1]:
            yield name, is_whole, kept


def _of_evaluation(folder: Path) -> Kept:
    kept = read_solutions(folder) if (folder / FILE).exists() else {}
    rows = list[Row]()
    for result in read_rows(folder / "results.jsonl"):
        row = _rounded({key: result[key] for key in _RESULT})
        row["cost"] = _rounded({key: result["cost"][key] for key in _COSTS})
        row["error"], found = _kind(result["error"]), kept.get(result["id"])
        if found is not None:
            solutions = found["solutions"]
            row["kept"] = {key: found[key] for key in ("seed", "selected")} | {
                "answer": [each["answer"] for each in solutions],
                "weight": [_rounded(each["weight"], _OF_WEIGHTS) for each in solutions],
                **_same([each["steps"] for each in solutions]),
            }
        rows.append(row)
    manifest = _config(folder / "manifest.json")
    return {key: manifest[key] for key in manifest if key != "config_hash"}, rows


def _of_samples(folder: Path) -> Kept:
    labels = {name_of(row): row for row in read_rows(folder / "labels.jsonl")}
    by_question = dict[str, list[Row]]()
    for row in read_rows(folder / "samples.jsonl"):
        by_question.setdefault(row["id"], []).append(row)
    rows = list[Row]()
    for each in by_question.values():
        asked = {key: each[0][key] for key in ("id", "split", "answer")}
        if not is_solution(each[0]):
            rows.append(asked | {"error": _kind(each[0]["error"])})
            continue
        cut = [labels.get(name_of(row), {"steps": [], "step_ends": []}) for row in each]
        keys = ("sample", "token_ids", "finish_reason", "found", "correct")
        rows.append(
            asked
            | {key: [row[key] for row in each] for key in keys}
            | {"step_ends": [row["step_ends"] for row in cut]}
            | {"log_probs": [_means(*pair) for pair in zip(each, cut, strict=True)]}
            | _same([row["steps"] for row in cut])
        )
    return _config(folder / "config.json"), rows


def _of_scores(row: Row) -> Row:
    return {"solution": row["solution"], "log_odds": _rounded(row["log_odds"])}


def _bring(target: Path, name: str, kept: Kept, texts: Texts) -> None:
    """Write a cell; it is there as a whole or not at all."""
    about, rows = kept
    if name in LAWS:
        write_json(target, about)
        return
    if name.startswith("scores-"):
        write_bytes(target, "".join(f"{dumps(row)}\n" for row in rows).encode())
        return
    partial = target.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (_bring_samples if name in _SAMPLES else _bring_evaluation)(partial, about, rows, texts)
    partial.replace(target)


def _bring_evaluation(folder: Path, about: Row, rows: list[Row], texts: Texts) -> None:
    results = list[Row]()
    for row in rows:
        question, kept = texts.question(row["id"]), row.pop("kept", None)
        results.append({"id": row["id"], "question": question} | row)
        if kept is None:
            continue
        columns = (kept[key] for key in ("answer", "weight", "first", "whole"))
        solutions: Any = [
            {"weight": weight, "log_weight": None, "answer": answer, "finish_reason": None}
            | {"steps": [str(first), str(whole)], "rewards": [], "log_prob": None}
            | {"num_tokens": 0, "why_no_answer": None}
            for answer, weight, first, whole in zip(*columns, strict=True)
        ]
        append_solutions(
            folder,
            {
                "id": row["id"],
                "seed": kept["seed"],
                "question": question,
                "selected": kept["selected"],
                "solutions": solutions,
            },
        )
    write_json(folder / "manifest.json", texts.config(about))
    Lines(folder / "results.jsonl").append(results)


def _bring_samples(folder: Path, about: Row, rows: list[Row], texts: Texts) -> None:
    samples, labels = list[Row](), list[Row]()
    for row in rows:
        asked = {"id": row["id"], "split": row["split"], "question": texts.question(row["id"])}
        asked["answer"] = row["answer"]
        if "error" in row:
            samples.append(asked | {"error": row["error"]})
            continue
        for n, piece in enumerate(texts.cut(row)):
            keys = ("sample", "token_ids", "finish_reason", "correct", "found")
            sample = asked | {key: row[key][n] for key in keys}
            bounds = _bounds(sample["token_ids"], piece.step_ends)
            means = zip(row["log_probs"][n], pairwise(bounds), strict=True)
            log_probs = [mean for mean, (start, end) in means for _ in range(start, end)]
            samples.append(sample | {"log_probs": log_probs, "text": piece.text})
            labels.append(
                {
                    "id": row["id"],
                    "sample": sample["sample"],
                    "step_ends": list(piece.step_ends),
                    "steps": list(piece.steps),
                    "labels": [float(sample["correct"])] * len(piece.steps),
                    "continuations": 0,
                    "labeller": "outcome",
                }
            )
    write_json(folder / "config.json", texts.config(about))
    Lines(folder / "samples.jsonl").append(samples)
    Lines(folder / "labels.jsonl").append(labels)


def _samples_in(folder: Path) -> str:
    """Return a digest of the tokens of the samples in a folder."""
    rows = filter(is_solution, read_rows(folder / "samples.jsonl"))
    return _digest("\n".join(sorted(f"{name_of(row)} {row['token_ids']}" for row in rows)).encode())


def _same(solutions: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Return numbers that are the same where the first steps are, and where all steps are."""
    steps = [tuple(each) for each in solutions]
    return {"first": _numbers(each[:1] for each in steps), "whole": _numbers(steps)}


def _numbers(values: Iterable[tuple[str, ...]]) -> list[int]:
    numbers = dict[tuple[str, ...], int]()
    return [numbers.setdefault(each, len(numbers)) for each in values]


def _marked(token_ids: Sequence[int], ends: Sequence[int], first: int, whole: int) -> CutSolution:
    """Return a solution with numbers in place of its steps, the same where the steps are."""
    steps = [str(first), *[str(whole)] * (len(ends) - 1)][: len(ends)]
    return CutSolution(tuple(steps), tuple(ends), len(token_ids), False)


def _means(sample: Row, cut: Row) -> list[float]:
    """Return the mean log-probability of the tokens between bounds."""
    log_probs: list[float] = sample["log_probs"]
    bounds = _bounds(sample["token_ids"], cut["step_ends"])
    return [_rounded(fmean(log_probs[start:end])) for start, end in pairwise(bounds)]


def _bounds(token_ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return the places between steps, and before and behind the last token."""
    count = len(token_ids)
    return sorted({0, *ends, max(count - 1, 0), count})


def _rounded(value: Any, digits: int = 6) -> Any:
    """Return a value with all floats in it to so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: _rounded(child, digits) for key, child in value.items()}
    return [_rounded(child, digits) for child in value] if isinstance(value, list) else value


def _kind(error: str | None) -> str | None:
    """Return the kind of an error, whose message may quote the question."""
    return None if error is None else error.split(":")[0]


def _config(path: Path) -> Any:
    """Return a configuration in which paths have lost their folders; nothing without a file."""
    return _mapped(loads(read_bytes(path)) if path.exists() else {}, _without_folders)


def _without_folders(text: str) -> str:
    return _FOLDERS.sub(r"\1", text)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with all texts in it changed."""
    if isinstance(value, dict):
        return {key: _mapped(child, change) for key, child in value.items()}
    if isinstance(value, list):
        return [_mapped(child, change) for child in value]
    return change(value) if isinstance(value, str) else value
