"""The work of `llmsmc ablate`, after its options have been read."""

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.progress import TextColumn

from llmsmc.ablations import page as pages
from llmsmc.ablations.plan import Plan
from llmsmc.ablations.processes import run_units
from llmsmc.ablations.report import report
from llmsmc.ablations.store import Store
from llmsmc.ablations.study import Study
from llmsmc.ablations.work import Unit
from llmsmc.cli import console
from llmsmc.cli.ablation_table import cells_table, comparisons_table, plan_table
from llmsmc.cli.errors import FAILURE, INTERRUPTED, print_error
from llmsmc.cli.progress import progress_bar
from llmsmc.cli.quiet import quiet_libraries
from llmsmc.core.counted import counted
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import load
from llmsmc.storage.json_files import check_writable, unwritable, write_json


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    """Return the seeds that are listed.

    Raises:
        InputError: one is no integer.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"Seeds are integers. Got {text!r}; accepted: one or several, as in 0,1,2."
        ) from error


def changed(
    plan: Plan, *, dataset: str | None, limit: int | None, seeds: str | None, **values: Any
) -> Plan:
    """Return the plan with the size and the values that the options give.

    Raises:
        InputError: one of them cannot be used.
    """
    return plan.overridden(**values).sized(dataset, limit, parse_seeds(seeds))


def command_line(name: str, quick: bool, given: dict[str, Any]) -> str:
    """Return the command that makes the same report."""
    words = ["llmsmc", "ablate", name, *(["--quick"] if quick else [])]
    for name, value in given.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def show_plan(plan: Plan, out: Path) -> None:
    """Print the cells of a plan with the number of runs that are left."""
    dataset = load(plan.dataset)
    store = Store(out, dataset)
    try:
        console.results().print(plan_table(Study(plan, dataset, store)))
    finally:
        store.close()


def ablate(
    plan: Plan, out: Path, jobs: int, page: Path | None, command: str, *, debug: bool = False
) -> None:
    """Run the missing cells of a plan, and print and write the report.

    Args:
        plan: the plan, at its size.
        out: the folder of all results.
        jobs: number of processes.
        page: the path of the page, which is written beside the folder's `NAME.json`.
        command: the command that the page names.
        debug: whether warnings of libraries are shown.
    """
    quiet_libraries(debug)
    if page is not None:
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(page, error) from error
        check_writable(page)
    dataset = load(plan.dataset)
    store = Store(out, dataset)
    try:
        study = Study(plan, dataset, store)
        complete = functools.partial(
            _complete, store=store, jobs=jobs, prepare=functools.partial(quiet_libraries, debug)
        )
        study.settle(complete)
        complete(study.units())
        problems = [example.id for example in study.examples]
        made = report(study.plan, study.rows(), problems, command)
    except KeyboardInterrupt:
        print_error("interrupted; the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        store.close()
    written = out / f"{plan.name}.json"
    write_json(written, made)
    screen = console.results()
    screen.print(cells_table(made))
    screen.print(comparisons_table(made))
    for failure in made["failures"]:
        line = f"{failure['cell']}, {failure['id']}, seed {failure['seed']}: {failure['error']}"
        screen.print(console.foreign(line, "yellow"))
    screen.print(console.foreign(f"Report: {written}", "dim"))
    if page is not None:
        pages.write_page(made, page)
        screen.print(console.foreign(f"Page: {page}", "dim"))
    count = made["total"]["num_runs"]
    if count and count == made["total"]["num_errors"]:
        which = "the only run" if count == 1 else f"all {count} runs"
        print_error(f"{which} failed, so that there is no result")
        raise typer.Exit(FAILURE)


def _complete(units: Sequence[Unit], *, store: Store, jobs: int, prepare: Any) -> None:
    """Run units, and write each result as it comes, with a bar that shows how far it is."""
    if not units:
        return
    done = TextColumn("{task.fields[count]} of {task.fields[of]}")
    with progress_bar(done, "{task.fields[cell]}") as progress:
        total = sum(unit.weight * unit.left for unit in units)
        of = counted(sum(unit.left for unit in units), "run")
        task = progress.add_task("Running", total=total, count=0, of=of, cell="starting")
        for count, (unit, result) in enumerate(run_units(units, jobs, prepare), start=1):
            store.add(unit.cell, unit.seed, result)
            cell = console.foreign(unit.cell.series).plain
            progress.update(task, advance=unit.weight, count=count, cell=cell)
