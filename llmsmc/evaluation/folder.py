"""The folder of an evaluation: one line a question, written as it goes, to be taken up again.

* `manifest.json`: the configuration, its hash, the versions, and when it started;
* `results.jsonl`: one object a question;
* `solutions.jsonl.gz`: the solutions of each question, as far as they are kept;
* `summary.json`: the figures, after the last question.
"""

import contextlib
import glob
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmsmc.errors import InputError
from llmsmc.evaluation.configuration import Configuration
from llmsmc.evaluation.result_lines import is_result, parse_results, read_manifest
from llmsmc.evaluation.runner import Result, summarize
from llmsmc.evaluation.solutions import Solutions, append_solutions, cut_unfinished
from llmsmc.solving.machine import Machine
from llmsmc.storage.json_files import dumps, unwritable, versions, write_json
from llmsmc.storage.strict_files import FORMAT, loads, read_bytes, write_bytes
from llmsmc.storage.typed import mismatch


class EvaluationFolder:
    """A folder that belongs to one configuration.

    Attributes:
        path: the folder.
        results: the results that have been written so far.
    """

    def __init__(self, path: Path, config: Configuration) -> None:
        """Open the folder, or make it.

        Raises:
            InputError: it cannot be written to, or belongs to another configuration.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            claim(path / "manifest.json", config)
            self.results = read_results(path / "results.jsonl")
            (path / "results.jsonl").touch()  # finds out whether it can be written
            cut_unfinished(path)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise unwritable(path, error) from error

    @property
    def done(self) -> set[str]:
        """The ids of the questions that have a result."""
        return {str(result["id"]) for result in self.results}

    @property
    def failed(self) -> set[str]:
        """The ids of the questions that failed."""
        return {str(result["id"]) for result in self.results if result["error"] is not None}

    def drop(self, ids: Collection[str]) -> None:
        """Take the results of some questions out, so that they are missing again.

        Raises:
            InputError: the file cannot be written.
        """
        path = self.path / "results.jsonl"
        kept = [result for result in self.results if str(result["id"]) not in ids]
        try:
            write_bytes(path, "".join(f"{dumps(result)}\n" for result in kept).encode())
        except OSError as error:
            raise unwritable(path, error) from error
        self.results = kept

    def append(self, result: Result, kept: Solutions | None = None) -> None:
        """Write one more result, behind the solutions of its question that are kept.

        Raises:
            InputError: it cannot be written.
        """
        path = self.path / "results.jsonl"
        try:
            if kept is not None:
                append_solutions(self.path, kept)
            with path.open("a", encoding="utf-8") as file:
                file.write(dumps(result) + "\n")
        except OSError as error:
            raise unwritable(path, error) from error
        self.results.append(result)

    def write_summary(self, machine: Machine | None = None) -> dict[str, Any]:
        """Write and return the figures of all results.

        Args:
            machine: how the policy was computed; by default as an earlier summary says.
        """
        path = self.path / "summary.json"
        figures = summarize(self.results) | {"machine": machine or _machine_in(path)}
        write_json(path, figures)
        return figures


def _machine_in(summary: Path) -> Machine | None:
    """Return how a policy was computed, from a summary; None where none is that says so."""
    try:
        machine: Machine | None = loads(read_bytes(summary))["machine"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return machine if mismatch(machine, Machine) is None else None


def claim(path: Path, config: Configuration) -> None:
    """Write the manifest, or check that the existing one has the same configuration.

    Raises:
        InputError: it has another configuration; the message lists the differences.
    """
    if not path.exists():
        if path.with_name("results.jsonl").exists():
            raise InputError(
                f"There are results, but nothing says of what. Got {str(path.parent)!r} without a "
                "manifest.json; accepted: an empty folder, or one of an earlier evaluation."
            )
        manifest = {
            "format": FORMAT,
            "config": config.values,
            "config_hash": config.hash,
            "versions": versions(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(path, manifest)
        return
    changes = config.changes_from(read_manifest(path))
    if changes:
        raise InputError(
            f"The folder belongs to another configuration. Got {'; '.join(changes)}. Accepted: the "
            "same configuration, or another folder."
        )


def folder_of(parent: Path, config: Configuration) -> Path:
    """Return the folder that belongs to a configuration, or that it is to have.

    An earlier version may have given it another name.
    """
    path = parent / config.folder_name
    if path.exists():
        return path
    for manifest in sorted(parent.glob(f"{glob.escape(config.subject)}-*/manifest.json")):
        with contextlib.suppress(InputError):
            if not config.changes_from(read_manifest(manifest)):
                return manifest.parent
    return path


def read_results(path: Path) -> list[Result]:
    """Return the results in a file; a last line that was not finished is cut off.

    Raises:
        InputError: a line that was finished is not a result, or a question has different ones.
    """
    if not path.exists():
        return []
    text = read_bytes(path)
    whole, rest = text[: text.rfind(b"\n") + 1], text[text.rfind(b"\n") + 1 :]
    results = parse_results(path, whole)
    if is_result(rest):  # it lacks nothing but its end
        results += parse_results(path, rest)
        with path.open("ab") as file:
            file.write(b"\n")
    elif rest:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return without_duplicates(path, results)


def without_duplicates(path: Path, results: Sequence[Result]) -> list[Result]:
    """Return the first result of each question, given those in the lines of a file.

    Results that differ in nothing but the time and the memory they took are the same run twice.

    Raises:
        InputError: a question has different ones; says in which lines.
    """
    lines = dict[str, int]()
    conflicts = dict[str, tuple[int, int]]()
    for number, result in enumerate(results, start=1):
        name = str(result["id"])
        first = lines.setdefault(name, number)
        if _outcome(result) != _outcome(results[first - 1]):
            conflicts.setdefault(name, (first, number))
    if conflicts:
        name, (first, second) = next(iter(conflicts.items()))
        more = f" (and of {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
        raise InputError(
            f"A question has one result. Got different ones of {name!r}{more} in lines {first} and "
            f"{second} of {str(path)!r}; accepted: one line a question (take the others out), or "
            "another folder."
        )
    return [results[number - 1] for number in lines.values()]


def _outcome(result: Result) -> Result:
    """Return the part of a result that is the same if a question is run, or fails, again."""
    same = {key: value for key, value in result.items() if key not in ("seconds", "cost")}
    return same | {"error": result.get("error") is not None}
