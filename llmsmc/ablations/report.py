"""The report of an ablation, as written into a JSON file.

Everything that is drawn or written about an ablation is made from this and nothing else.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NotRequired, TypedDict

from llmsmc.ablations.comparing import ComparisonReport, Row, compare, together
from llmsmc.ablations.figures import Figures, all_failed, figures, is_right
from llmsmc.ablations.plan import Plan
from llmsmc.solving.algorithms import describe_algorithm
from llmsmc.storage.json_files import versions
from llmsmc.storage.strict_files import FORMAT


class CellReport(TypedDict):
    """A cell, its figures, and the outcomes of each seed, one character for each problem."""

    label: str
    values: dict[str, Any]
    algorithm: dict[str, Any]
    complete: bool
    figures: Figures | None
    outcomes: dict[str, str]


class Failure(TypedDict):
    """A run that failed."""

    cell: str
    id: str
    seed: int
    error: str


class Total(TypedDict):
    """The cost of all runs together; runs that cells have in common count once."""

    num_runs: int
    num_errors: NotRequired[int]
    generated_tokens: int
    seconds: float


class Report(TypedDict):
    """An ablation: the texts of its plan, its cells, its comparisons, and how it was run."""

    name: str
    title: str
    figure: str
    claim: str
    caution: str
    command: str
    dataset: str
    problems: int
    seeds: list[int]
    cells: list[CellReport]
    comparisons: list[ComparisonReport]
    verdict: str
    failures: list[Failure]
    total: Total
    plot: dict[str, Any]
    published: dict[str, Any]
    versions: dict[str, str]
    format: NotRequired[int]


MEASURED: tuple[str, ...] = ("seconds", "peak_memory_bytes")
"""Figures that differ from run to run and from machine to machine; all others do not."""

OUTCOMES: Final[dict[bool | None, str]] = {True: "1", False: "0", None: "-"}
"""How a problem is written in `outcomes`: right, wrong, not run; a text for each seed."""


def report(plan: Plan, rows: Sequence[Row], problems: Sequence[str], command: str) -> Report:
    """Return the report of the runs so far.

    Args:
        plan: the plan.
        rows: its cells with their runs.
        problems: the ids of the problems, in order; a set may have fewer than the plan asks for.
        command: the command that makes this report.
    """
    comparable = [row for row in rows if not all_failed(row.runs)]
    comparisons = [compare(each, comparable) for each in plan.comparisons]
    return {
        "name": plan.name,
        "title": plan.texts["title"],
        "figure": plan.texts["figure"],
        "claim": plan.texts["claim"],
        "caution": plan.texts["caution"],
        "command": command,
        "dataset": plan.dataset,
        "problems": len(problems),
        "seeds": list(plan.size.seeds),
        "cells": [_cell(row, problems, plan.size.seeds) for row in rows],
        "comparisons": comparisons,
        "verdict": together([each["verdict"] for each in comparisons]),
        "failures": [failure for row in rows for failure in _failures(row)],
        "total": _total(rows),
        "plot": plan.plot,
        "published": plan.published,
        "versions": versions(),
        "format": FORMAT,
    }


def _cell(row: Row, problems: Sequence[str], seeds: Sequence[int]) -> CellReport:
    cell, runs = row.cell, row.runs
    right = {key: is_right(result, cell.selection) for key, result in runs.items()}
    outcomes = {
        str(seed): "".join(OUTCOMES[right.get((problem, seed))] for problem in problems)
        for seed in seeds
    }
    return {
        "label": row.label,
        "values": cell.values,
        "algorithm": describe_algorithm(cell.algorithm),
        "complete": len(runs) == len(problems) * len(seeds),
        "figures": figures(cell, runs) if runs else None,
        "outcomes": outcomes if runs else {},
    }


def _failures(row: Row) -> list[Failure]:
    runs = row.runs
    return [
        {"cell": row.label, "id": problem, "seed": seed, "error": runs[problem, seed]["error"]}
        for problem, seed in sorted(runs)
        if runs[problem, seed]["error"] is not None
    ]


def _total(rows: Sequence[Row]) -> Total:
    results = {id(result): result for row in rows for result in row.runs.values()}.values()
    return {
        "num_runs": len(results),
        "num_errors": sum(result["error"] is not None for result in results),
        "generated_tokens": sum(result["cost"]["generated_tokens"] for result in results),
        "seconds": math.fsum(result["seconds"] for result in results),
    }
