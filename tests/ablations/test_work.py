"""Units of work, run in this process."""

import pytest

from llmsmc.ablations.cell import make_cell, unselected
from llmsmc.ablations.work import Unit, Worker
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Example
from llmsmc.solving.settings import Settings


def test_a_policy_on_a_server_is_not_quantized_to_propose() -> None:
    """Which is told before the server, which there is none of, is asked anything."""
    values = {"series": "guided", "algorithm": "guided", "policy": "http://127.0.0.1:9/v1"}
    values |= {"reward": "minimath-reward"}
    unit = Unit(make_cell(values), 0, (Example("a/1", "What is 3 + 4?", "7"),), frozenset())
    with pytest.raises(InputError, match="not quantized once more"):
        next(Worker().results(unit))


def test_how_answers_are_read_is_no_part_of_a_run() -> None:
    values = {"series": "a", "algorithm": "bootstrap", "max_steps": 3, "selection": "argmax"}
    assert unselected(make_cell(values).settings) == Settings(max_steps=3)
