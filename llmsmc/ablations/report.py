"""The report of an ablation, as written into a JSON file.

Everything that is drawn or written about an ablation is made from this and nothing else.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from llmsmc.ablations.comparing import Row, compare, together
from llmsmc.ablations.figures import all_failed, figures, is_right
from llmsmc.ablations.plan import Plan
from llmsmc.solving.algorithms import describe_algorithm
from llmsmc.storage.json_files import versions
from llmsmc.storage.strict_files import FORMAT

Report = dict[str, Any]

MEASURED: tuple[str, ...] = ("seconds", "peak_memory_bytes")
"""Figures that differ from run to run and from machine to machine; all others do not."""

OUTCOMES: Final[dict[bool | None, str]] = {True: "1", False: "0", None: "-"}
"""How a problem is written in `outcomes`: right, wrong, not run; a text for each seed."""


def report(plan: Plan, rows: Sequence[Row], problems: Sequence[str], command: str) -> Report:
    """Return the report of what has been run so far.

    Args:
        plan: the plan.
        rows: its cells with their runs.
        problems: the ids of the problems, in order; a set may have fewer than the plan asks for.
        command: what makes this report.
    """
    comparable = [row for row in rows if not all_failed(row.runs)]
    comparisons = [compare(each, comparable) for each in plan.comparisons]
    return {
        "name": plan.name,
        **plan.texts,
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


def _cell(row: Row, problems: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    cell, runs = row.cell, row.runs
    described = {
        "label": row.label,
        "values": cell.values,
        "algorithm": describe_algorithm(cell.algorithm),
        "complete": len(runs) == len(problems) * len(seeds),
    }
    if not runs:
        return described | {"figures": None, "outcomes": {}}
    right = {key: is_right(result, cell.selection) for key, result in runs.items()}
    outcomes = {
        str(seed): "".join(OUTCOMES[right.get((problem, seed))] for problem in problems)
        for seed in seeds
    }
    return described | {"figures": figures(cell, runs), "outcomes": outcomes}


def _failures(row: Row) -> list[dict[str, Any]]:
    runs = row.runs
    return [
        {"cell": row.label, "id": problem, "seed": seed, "error": runs[problem, seed]["error"]}
        for problem, seed in sorted(runs)
        if runs[problem, seed]["error"] is not None
    ]


def _total(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what all runs have cost together; those that cells have in common count once."""
    results = {id(result): result for row in rows for result in row.runs.values()}.values()
    return {
        "num_runs": len(results),
        "num_errors": sum(result["error"] is not None for result in results),
        "generated_tokens": sum(result["cost"]["generated_tokens"] for result in results),
        "seconds": math.fsum(result["seconds"] for result in results),
    }
