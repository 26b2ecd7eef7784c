"""Run cells, keep them and bring them back, or make the page of those that are whole.

    python -m benchmarks.real_questions run WORK CELL... --dataset FILE --policy MODEL
    python -m benchmarks.real_questions page [WORK]
    python -m benchmarks.real_questions keep WORK
    python -m benchmarks.real_questions bring WORK --dataset FILE --policy MODEL

WORK is a folder outside of the project. `run` goes on where a cell was left. `page` reads WORK,
writes docs/figures/real_questions.json and .svg, and puts the tables into docs/real_models.md;
without WORK it reads the records of cells, and without any record, the figures that are there.
`keep` writes the records of the cells in WORK, and `bring` makes them cells again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.page import replaced
from benchmarks.real_questions import drawing, figures, records, running
from benchmarks.real_questions.plan import NUM_SAMPLES, PLANNED, WORLDS, World, check_name
from benchmarks.real_questions.tables import blocks
from llmsmc.storage.json_files import write_json

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE: Final = DOCS / "real_models.md"
FIGURES: Final = DOCS / "figures" / "real_questions.json"


def with_blocks(page: str, found: dict[str, Any]) -> str:
    """Return the text of the page with the tables of the figures in its marked blocks."""
    for name, text in blocks(found).items():
        page = replaced(page, text, f"<!-- {name} -->", f"<!-- end of {name} -->")
    return page


def make_page(found: dict[str, Any], numbers: Path, page: Path) -> None:
    """Write the figures, the plot beside them, and the tables into the page."""
    numbers.parent.mkdir(parents=True, exist_ok=True)
    write_json(numbers, found)
    methods = found["gsm8k"]["methods"]
    if methods:
        drawing.save(methods, numbers.with_suffix(".svg"))
    found = json.loads(numbers.read_text(encoding="utf-8"))
    page.write_text(with_blocks(page.read_text(encoding="utf-8"), found), encoding="utf-8")


def worlds(count: int | None) -> dict[str, World]:
    """Return the worlds, of so many questions if that is given."""
    return {
        name: world if count is None else replace(world, count=count)
        for name, world in WORLDS.items()
    }


def figures_in(work: Path | None, kept: Path, every: Mapping[str, World]) -> dict[str, Any]:
    """Return the figures of the cells in a folder; without one, those of the records, if any."""
    if work is not None:
        return figures.figures_of(work, every)
    if not records.has_any(kept, every):
        found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
        return found
    with records.brought(kept, every) as brought:
        return figures.figures_of(brought, every)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    given = parsed(arguments)
    every = worlds(given.count)
    if given.what == "page":
        make_page(figures_in(given.work, given.records, every), given.figures, given.page)
        return
    if given.what == "keep":
        for world in every.values():
            for name in records.keep(given.work / world.name, world, given.records):
                print(f"{world.name}/{name}", flush=True)
        return
    world = every[given.world]
    job = running.Job(
        world,
        given.work / world.name,
        given.dataset,
        given.policy,
        given.larger,
        dict(each.split("=", 1) for each in given.reward),
    )
    if given.what == "bring":
        for line in records.bring(given.records, world.name, job.folder, records.Texts(job)):
            print(line, flush=True)
        return
    job = replace(
        job,
        settings={} if given.dtype is None else {"dtype": given.dtype},
        num_samples={"samples": given.samples, "samples-larger": given.samples_of_larger},
    )
    names = PLANNED[world.name] if given.cells == ["planned"] else given.cells
    for name in names:
        check_name(name)
    for name in names:
        print(f"{name}: {running.run(job, name)}", flush=True)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    page = commands.add_parser("page", help="make the page of the cells that are whole")
    page.add_argument("work", type=Path, nargs="?", help="the folder of all cells")
    page.add_argument("--figures", type=Path, default=FIGURES, help="the JSON file")
    page.add_argument("--page", type=Path, default=PAGE, help="the page with marked blocks")
    run = commands.add_parser("run", help="run cells, one after the other")
    run.add_argument("work", type=Path, help="the folder of all cells")
    run.add_argument(
        "cells", nargs="+", metavar="CELL", help="of plan.py; planned stands for all of the page"
    )
    run.add_argument("--dtype", help="the precision of the models; by default as llmsmc has it")
    run.add_argument("--samples", type=int, default=NUM_SAMPLES, help="of the cell samples")
    run.add_argument("--samples-of-larger", type=int, default=5, help="of samples-larger")
    keep = commands.add_parser("keep", help="write the records of cells")
    keep.add_argument("work", type=Path, help="the folder of all cells")
    bring = commands.add_parser("bring", help="make the cells of a world from their records")
    bring.add_argument("work", type=Path, help="the folder of all cells")
    for each in (run, bring):
        each.add_argument("--world", choices=list(WORLDS), default="gsm8k")
        each.add_argument("--dataset", type=Path, required=True, help="the file of the questions")
        each.add_argument("--policy", required=True, help="the policy")
        each.add_argument("--larger", help="the larger model")
        each.add_argument(
            "--reward",
            action="append",
            default=[],
            metavar="NAME=REWARD",
            help="probe=FOLDER, adapter=FOLDER, ratio=ratio:FILE; can be repeated",
        )
    for each in (page, keep, bring):
        each.add_argument("--records", type=Path, default=records.RECORDS, help="their folder")
    for each in (page, run, keep, bring):
        each.add_argument("--count", type=int, help="only so many questions, the first ones")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
