"""The benchmarks can be started, and what they time is still where they look for it."""

import importlib
from pathlib import Path

import pytest

from benchmarks import where_time_goes

FOLDER = Path(where_time_goes.__file__).parent
MODULES = [
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    for path in sorted(FOLDER.rglob("*.py"))
    if path.parent.name != "runs"  # those are programs of environments that have the peers
]


@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_can_be_imported(module: str) -> None:
    assert importlib.import_module(module).__doc__


def test_every_section_of_a_run_takes_time() -> None:
    """A section that has moved elsewhere would take none."""
    shares = where_time_goes.shares(num_particles=4, level=2, limit=1)
    assert all(share > 0 for share in shares.values()), shares
    assert sum(shares.values()) == pytest.approx(1)
