"""The work of `llmsmc show`, after its options have been read."""

import math
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from llmsmc.cli import console
from llmsmc.cli.console import foreign
from llmsmc.cli.display import solution_table
from llmsmc.core.counted import counted
from llmsmc.errors import InputError
from llmsmc.evaluation.result_lines import parse_results
from llmsmc.evaluation.runner import Result
from llmsmc.evaluation.solutions import Solution, read_solutions
from llmsmc.models.reasoning.no_answer import CAUSES
from llmsmc.storage.strict_files import read_bytes

NOTHING = "-"


def show_questions(folder: Path, only: str) -> None:
    """List the questions of an evaluation of a kind, with their answers.

    Raises:
        InputError: the folder has no results.
    """
    chosen = [each for each in _results(folder) if only in ("all", _kind(each))]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("question", "", "answer", "reference", "cost", "remark"):
        table.add_column(title, overflow="fold", justify="right" if title == "cost" else "left")
    for each in chosen:
        table.add_row(
            foreign(each["id"]),
            _verdict(each),
            foreign(each["answer"] or NOTHING),
            foreign(each["reference"]),
            f"{each['cost']['generated_tokens']:,}",
            foreign(_remark(each), "dim"),
        )
    screen = console.results()
    screen.print(table)
    screen.print(foreign(f"{counted(len(chosen), 'question')}; cost in tokens", "dim"))


def show_solutions(folder: Path, name: str, *, all_solutions: bool) -> None:
    """Print a question with the solutions that were kept of it.

    Raises:
        InputError: there is no such question, or nothing was kept of it.
    """
    result = _question(_results(folder), name)
    kept = read_solutions(folder).get(result["id"])
    if kept is None:
        raise InputError(
            f"Nothing was kept of this question. Got {result['id']!r}; accepted: a question that "
            "was run with --solutions selected or all, and did not fail."
        )
    screen = console.results()
    screen.print(foreign(kept["question"]))
    screen.print(
        foreign(f"\nThe reference is {result['reference']}. ").append_text(_verdict(result))
    )
    chosen = kept["solutions"] if all_solutions else [kept["solutions"][kept["selected"]]]
    for number, each in enumerate(chosen, start=1):
        title = f"\nSolution {number} of {len(chosen)}" if all_solutions else "\nSelected solution"
        screen.print(foreign(f"{title}: {_facts(each)}", "bold"))
        rewards = [math.nan if reward is None else reward for reward in each["rewards"]]
        screen.print(solution_table(each["steps"], rewards))


def _results(folder: Path) -> list[Result]:
    """Return the results in a folder; a last line that was not finished is left out."""
    path = folder / "results.jsonl"
    try:
        content = read_bytes(path)
    except OSError as error:
        raise InputError(
            f"There is no evaluation in this folder ({error}). Got {str(folder)!r}; accepted: the "
            "folder that llmsmc eval has named as that of its results."
        ) from error
    return parse_results(path, content[: content.rfind(b"\n") + 1])


def _question(results: list[Result], name: str) -> Result:
    """Return the result of the question of that id, or of the only one whose id ends in it."""
    found = [each for each in results if each["id"] == name]
    found = found or [each for each in results if each["id"].endswith(f"/{name}")]
    if len(found) != 1:
        some = ", ".join(sorted(each["id"] for each in found or results)[:5])
        raise InputError(
            f"A question is named by its id, or the end of it. Got {name!r}, which is that of "
            f"{len(found)}; accepted: one of {some}{', ...' if len(results) > 5 else ''}."
        )
    return found[0]


def _kind(result: Result) -> str:
    if result["error"] is not None:
        return "failed"
    if result["answer"] is None:
        return "no-answer"
    return "right" if result["correct"] else "wrong"


def _verdict(result: Result) -> Any:
    kind = _kind(result)
    styles = {"right": "green", "wrong": "red"}
    return foreign(kind.replace("-", " "), styles.get(kind, "yellow"))


def _remark(result: Result) -> str:
    if result["error"] is not None:
        return str(result["error"])
    cause = result.get("why_no_answer")
    return CAUSES.get(cause, cause) if cause else ""


def _facts(solution: Solution) -> str:
    """Return the probability, the answer and the length of a solution, and why it ended."""
    cause = solution["why_no_answer"]
    answer = f"answer {solution['answer']}" if solution["answer"] is not None else "no answer"
    ended = CAUSES.get(cause, cause) if cause else f"ended by {solution['finish_reason']}"
    return (
        f"{answer}, probability {solution['weight']:.1%}, "
        f"{counted(solution['num_tokens'], 'token')}, {ended}"
    )
