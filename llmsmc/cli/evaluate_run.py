"""The work of `llmsmc eval`, after its options have been read."""

from pathlib import Path
from typing import Any

import typer
from rich.progress import MofNCompleteColumn

from llmsmc.cli import console
from llmsmc.cli.errors import FAILURE, INTERRUPTED, print_error
from llmsmc.cli.evaluation_table import (
    coverage_table,
    errors_table,
    evaluation_table,
    no_answer_table,
)
from llmsmc.cli.progress import progress_bar
from llmsmc.core.counted import counted
from llmsmc.evaluation.evaluating import Job, UnderWay, opened
from llmsmc.evaluation.folder import EvaluationFolder
from llmsmc.models.reasoning.no_answer import advice
from llmsmc.solving.machine import machine_line
from llmsmc.solving.settings import Settings


def evaluate(job: Job, out: Path | None = None) -> None:
    """Run the algorithm on all questions that have no result yet, and print the figures of all.

    Args:
        job: the evaluation to be run.
        out: the folder of the results; by default the folder of that configuration in `runs`.
    """
    with opened(job, out, Path("runs")) as under_way:
        try:
            if not under_way.is_complete:
                with console.waiting(f"Loading {job.settings.policy}"):
                    under_way.load()
                _run_missing(under_way)
        except KeyboardInterrupt:
            results = counted(len(under_way.folder.results), "result")
            print_error(f"interrupted after {results}; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        evaluation = under_way.concluded()
        path, num_asked = under_way.folder.path, len(job.dataset.examples)
    if job.algorithm.needs_reward:
        _print_reward(job.settings)
    _print_report(evaluation.figures, path)
    num_others = len(evaluation.results) - num_asked
    if num_others > 0:
        others = counted(num_others, "question")
        remark = f"The figures include {others} that the folder had already."
        console.results().print(console.foreign(remark, "dim"))


def _print_reward(settings: Settings) -> None:
    """Name the reward, and say so where it knows the answers."""
    screen, named = console.results(), settings.named_reward
    screen.print(console.foreign(f"Reward: {settings.config()['reward']}", "dim"))
    if named is not None and named.reads_answers:
        remark = (
            "This reward knows the right answers of the data set: the figures are a ceiling for "
            "other rewards, and no result."
        )
        screen.print(console.foreign(remark, "bold red"))


def _run_missing(under_way: UnderWay) -> None:
    """Run the missing questions, with a bar that shows progress and accuracy."""
    folder, total = under_way.folder, len(under_way.job.dataset.examples)
    with progress_bar(MofNCompleteColumn(), "{task.fields[remark]}") as progress:
        task = progress.add_task(
            "Solving", total=total, completed=len(folder.results), remark=_remark(folder)
        )
        for _ in under_way.missing():
            progress.update(task, advance=1, remark=_remark(folder))


def _remark(folder: EvaluationFolder) -> str:
    """Return how many of the results so far are right, and how many failed."""
    num_results, num_failed = len(folder.results), len(folder.failed)
    failed = f", {num_failed} failed" if num_failed else ""
    if num_results == num_failed:
        return f"- right{failed}"
    num_right = sum(bool(result["correct"]) for result in folder.results)
    return f"{num_right / num_results:.1%} right{failed}"


def _print_report(figures: dict[str, Any], path: Path) -> None:
    """Print the figures and any reservations; leave with a failure if every question failed."""
    screen = console.results()
    count, num_errors = (figures["overall"][key] for key in ("num_problems", "num_errors"))
    if num_errors < count:
        screen.print(evaluation_table(figures))
        overall = figures["overall"]
        if overall["coverage"] is not None and overall["num_solutions"] > count:
            screen.print(coverage_table(overall))
        if overall["no_answer"]:
            screen.print(no_answer_table(overall))
        causes = {each["cause"]: each["solutions"] for each in overall["no_answer"]}
        mending = advice(causes, overall["num_solutions"])
        if mending is not None:
            screen.print(console.foreign(mending, "yellow"))
    if num_errors:
        as_wrong = ", counted as wrong" if num_errors < count else ""
        heading = f"{num_errors} of {counted(count, 'question')} failed{as_wrong}:"
        screen.print(console.foreign(heading, "yellow"))
        screen.print(errors_table(figures["errors"]))
    if figures["failures"]:
        num_failed = sum(kind["count"] for kind in figures["failures"])
        particles = counted(num_failed, "particle")
        heading = f"{particles} failed at a server, with weight zero among the others:"
        screen.print(console.foreign(heading, "yellow"))
        screen.print(errors_table(figures["failures"]))
    for each in figures["not_compared"]:
        remark = f"{each['id']}: counted as wrong, could not be compared ({each['grading']})"
        screen.print(console.foreign(remark, "yellow"))
    if figures["machine"] is not None:
        screen.print(console.foreign(machine_line(figures["machine"]), "dim"))
    screen.print(console.foreign(f"Results: {path}", "dim"))
    again = "the same command with --retry-errors tries them again; without it, it does not"
    if num_errors == count:
        which = "the only question" if count == 1 else f"all {count} questions"
        print_error(f"{which} failed, so that there is no result; {again}")
        raise typer.Exit(FAILURE)
    if num_errors:
        screen.print(console.foreign(f"Failed questions: {again}.", "dim"))
