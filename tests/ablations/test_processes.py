"""Units of work in processes of their own: errors of workers, and workers that end."""

import os

import pytest

from llmsmc.ablations.cell import make_cell
from llmsmc.ablations.processes import run_units
from llmsmc.ablations.work import Unit
from llmsmc.errors import InputError, LlmsmcError
from llmsmc.evaluation.datasets import Example

EXAMPLES = tuple(Example(f"a/{n}", f"What is {n} + 4?", str(n + 4)) for n in range(2))
# A policy on a server is not quantized to propose, which is found out before it is asked.
SERVER = {"policy": "http://127.0.0.1:9/v1", "reward": "minimath-reward"}
REFUSED = make_cell({"series": "g", "algorithm": "guided", **SERVER})
UNITS = [Unit(REFUSED, seed, EXAMPLES, frozenset()) for seed in (0, 1)]


def nothing() -> None:
    pass


def end() -> None:
    os._exit(9)


@pytest.mark.quick
def test_an_error_of_a_worker_is_raised_here() -> None:
    with pytest.raises(InputError, match="not quantized once more"):
        list(run_units(UNITS, 2, nothing))


@pytest.mark.quick
def test_a_worker_that_ends_is_an_error() -> None:
    with pytest.raises(LlmsmcError, match="Got an end in the middle of 4 runs"):
        list(run_units(UNITS, 2, end))
