"""Results that are written down instead of run."""

from dataclasses import asdict
from typing import Any

from llmsmc.ablations.cell import make_cell
from llmsmc.ablations.comparing import Row
from llmsmc.ablations.figures import Runs
from llmsmc.core.cost import Cost


def result(correct: bool, probability_correct: float = 0.5, **values: Any) -> dict[str, Any]:
    made = {
        "answer": "7",
        "correct": correct,
        "probability": 0.5,
        "probability_correct": probability_correct,
        "selected": {"mode": correct, "argmax": not correct},
        "cost": asdict(Cost(generated_tokens=10, scored_tokens=5, model_calls=2)),
        "seconds": 1.0,
        "num_particles": 4,
        "truncated": 1,
        "error": None,
    }
    return made | values


def runs(*rows: str) -> Runs:
    """Return runs of a problem a column and a seed a row, "1" where right."""
    return {
        (f"p{number:03}", seed): result(mark == "1")
        for seed, row in enumerate(rows)
        for number, mark in enumerate(row)
    }


def row(series: str, of: Runs, **values: Any) -> Row:
    cell = make_cell({"series": series, "algorithm": "bootstrap", "particles": 4} | values)
    return Row(cell, of, series)
