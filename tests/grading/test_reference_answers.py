"""The reference solutions of the benchmarks, graded against their own answers.

The data are not part of the project: a folder `shared/data` beside the checkout, or the one that
`LLMSMC_DATA` names.
"""

import os
from pathlib import Path

import pytest

from benchmarks.grading import EXPECTED, SETS, examine, read_set

ROOT = Path(__file__).resolve().parent.parent.parent
PLACES = [ROOT.parent / "shared" / "data", ROOT.parent.parent / "shared" / "data"]
if "LLMSMC_DATA" in os.environ:
    PLACES.insert(0, Path(os.environ["LLMSMC_DATA"]))
DATA = next((place for place in PLACES if place.is_dir()), None)


@pytest.mark.parametrize("name", SETS)
def test_every_reference_solution_is_right(name: str) -> None:
    if DATA is None or not (DATA / SETS[name]).is_file():
        pytest.skip(f"there is no {SETS[name]} in a folder shared/data beside the checkout")
    found = examine(read_set(DATA / SETS[name]))
    assert found.num_problems == EXPECTED[name]
    assert not found.not_extracted
    assert not found.not_right
    assert found.wrongly_right in ([], [("5", "x=5")])  # two neighbours in MATH-500
