"""The pages of the ablations: made by their reports, and made again at the quick size."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import claims
from llmsmc.ablations.page import index_of, page_text, read_reports

PAGES = Path(__file__).resolve().parent.parent / "docs" / "ablations"
REPORTS = read_reports(PAGES)
MOST_FLIPPED = 0.05  # of the outcomes; other processors round otherwise


def test_pages_and_figures_belong_to_their_reports() -> None:
    for name, report in REPORTS.items():
        assert page_text(report, name) == (PAGES / f"{name}.md").read_text(), name
        assert (PAGES / f"{name}.svg").is_file(), name
        assert f"--page docs/ablations/{name}.md" in report["command"], name
    if REPORTS:
        assert index_of(REPORTS) == (PAGES / "index.md").read_text()


def test_the_page_of_claims_has_their_table() -> None:
    text = claims.PAGE.read_text()
    assert claims.with_claims(text) == text


@pytest.mark.parametrize("name", REPORTS)
def test_accuracies_are_those_of_the_outcomes(name: str) -> None:
    for cell in REPORTS[name]["cells"]:
        marks = "".join(cell["outcomes"].values()).replace("-", "")
        figures = cell["figures"]
        assert figures is not None and figures["num_runs"] == len(marks)
        if cell["complete"]:
            assert figures["accuracy"] == pytest.approx(marks.count("1") / len(marks))


@pytest.mark.quick
@pytest.mark.parametrize("name", REPORTS)
def test_outcomes_come_out_again(name: str, tmp_path: Path) -> None:
    """What `--quick` runs are cells of the page, on its first problems with its first seed."""
    words = ["ablate", name, "--quick", "--in-flight", "8", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "llmsmc", *words], check=True, capture_output=True)
    quick = json.loads((tmp_path / f"{name}.json").read_text())
    published = {identity(cell): cell["outcomes"] for cell in REPORTS[name]["cells"]}
    again = [
        (mark, was)
        for cell in quick["cells"]
        for seed, marks in cell["outcomes"].items()
        for mark, was in zip(marks, published[identity(cell)][seed], strict=False)
    ]
    assert again and "-" not in {mark for pair in again for mark in pair}
    assert sum(mark != was for mark, was in again) <= max(1, MOST_FLIPPED * len(again))


def identity(cell: Any) -> str:
    return json.dumps([cell["values"], cell["algorithm"]], sort_keys=True)
