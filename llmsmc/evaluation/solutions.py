"""The texts of an evaluation: `solutions.jsonl.gz` in its folder, written as it goes.

The file has one line of JSON for each question, compressed by itself and appended before the
result of the question is: a run that is killed loses nothing of what was done, and `zcat` or
`gzip.open` read the file. A last line that was not finished is skipped, and cut off when the
evaluation goes on. Where a question has been run again, its last line counts.
"""

import gzip
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

from llmsmc.core.checks import require_choice
from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.evaluation.datasets import Example
from llmsmc.evaluation.run_record import solution_records
from llmsmc.evaluation.runner import Run, selected_solution
from llmsmc.results.posterior import Posterior
from llmsmc.storage.json_files import dumps
from llmsmc.storage.strict_files import loads, read_bytes
from llmsmc.storage.typed import mismatch

FILE: Final = "solutions.jsonl.gz"
Which = Literal["selected", "all", "none"]
WHICH: Final = ("selected", "all", "none")
"""Which solutions are kept: of each question the one whose answer counts, all, or none."""

_CHUNK: Final = 1 << 16


class Solution(TypedDict):
    """One solution: its share of the probability, its answer and its steps with their scores."""

    weight: float
    log_weight: float | None
    answer: str | None
    finish_reason: str | None
    steps: list[str]
    rewards: list[float | None]
    log_prob: float | None
    num_tokens: int
    why_no_answer: str | None


class Solutions(TypedDict):
    """The solutions of a question that were kept, and the place of the selected one in them."""

    id: str
    seed: int
    question: str
    selected: int
    solutions: list[Solution]


def read_solutions(folder: str | Path) -> dict[str, Solutions]:
    """Return the solutions that an evaluation has kept, by the id of their question.

    ```python
    kept = read_solutions("runs/first")["gsm8k/17"]
    print("".join(kept["solutions"][kept["selected"]]["steps"]))
    ```

    Raises:
        InputError: the folder has kept none, or the file is broken; says where.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise InputError(
            f"This folder has no solutions. Got {str(folder)!r}; accepted: the folder of an "
            f"evaluation that has kept them (--solutions selected or all), in {FILE}."
        )
    found = dict[str, Solutions]()
    for number, (_, content) in enumerate(_members(path), start=1):
        try:
            kept = loads(content)
            wrong = mismatch(kept, Solutions)
            if wrong is None and not 0 <= kept["selected"] < len(kept["solutions"]):
                wrong = f"selected is {kept['selected']} of {len(kept['solutions'])} solutions"
        except ValueError as error:
            wrong = str(error)
        if wrong is not None:
            raise _broken(path, number, wrong)
        found[kept["id"]] = kept
    return found


def append_solutions(folder: Path, kept: Solutions) -> None:
    """Write the solutions of one more question.

    Raises:
        OSError: they cannot be written.
    """
    with (folder / FILE).open("ab") as file:
        file.write(gzip.compress(f"{dumps(kept)}\n".encode(), mtime=0))


def cut_unfinished(folder: Path) -> None:
    """Cut off a last line that was not finished, so that others can be appended.

    Raises:
        InputError: the file is broken elsewhere.
        OSError: it cannot be read or written.
    """
    path = folder / FILE
    if path.exists():
        end = max((end for end, _ in _members(path)), default=0)
        if end < path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(end)


def _members(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield where each part of the file ends that was compressed by itself, and its content."""
    data, start, number = memoryview(read_bytes(path)), 0, 0
    while start < len(data):
        number += 1
        unpacking, content, place = zlib.decompressobj(wbits=31), bytearray(), start
        try:
            while not unpacking.eof and place < len(data):
                content += unpacking.decompress(data[place : place + _CHUNK])
                place += min(_CHUNK, len(data) - place)
        except zlib.error as error:
            raise _broken(path, number, str(error)) from error
        if not unpacking.eof:
            return
        start = place - len(unpacking.unused_data)
        yield start, bytes(content)


def _broken(path: Path, number: int, reason: str) -> InputError:
    return InputError(
        f"This file has the solutions of one question in each line. Got something else as line "
        f"{number} of {str(path)!r}: {reason}. Accepted: the file as it was written, or none."
    )


class Keeper:
    """Keeps the solutions of the questions that are under way until they are written."""

    def __init__(self, which: str) -> None:
        """Keep the selected solution of each question, all, or none."""
        require_choice("solutions", which, WHICH)
        self._which = which
        self._kept = dict[str, Solutions]()
        self._lock = threading.Lock()

    def recording(self, run: Run) -> Run:
        """Return the run, of which the solutions are kept."""
        if self._which == "none":
            return run

        def recorded(example: Example, seed: int) -> Posterior:
            try:
                posterior = run(example, seed)
            except DegenerateWeightsError as error:
                if error.posterior is not None:
                    self._keep(example, seed, error.posterior)
                raise
            self._keep(example, seed, posterior)
            return posterior

        return recorded

    def take(self, name: str) -> Solutions | None:
        """Return what was kept of a question, which is then forgotten."""
        with self._lock:
            return self._kept.pop(name, None)

    def _keep(self, example: Example, seed: int, posterior: Posterior) -> None:
        kept = kept_solutions(example, seed, posterior, self._which)
        with self._lock:
            self._kept[example.id] = kept


def kept_solutions(example: Example, seed: int, posterior: Posterior, which: str) -> Solutions:
    """Return the solutions of a question that are kept: the selected one, or all."""
    selected = selected_solution(posterior)
    chosen = range(posterior.num_particles) if which == "all" else [selected]
    causes = posterior.metadata.get("why_no_answer", [None] * posterior.num_particles)
    records: Any = [
        record | {"why_no_answer": causes[n]}
        for n, record in zip(chosen, solution_records(posterior, chosen), strict=True)
    ]
    return {
        "id": example.id,
        "seed": seed,
        "question": example.question,
        "selected": selected if which == "all" else 0,
        "solutions": records,
    }
