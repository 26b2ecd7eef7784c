"""The languages that other libraries are given are those whose answers we know."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.peers import languages
from benchmarks.peers.__main__ import table
from llmsmc.testing.instances import language_with_eos


def test_the_ragged_sentences_are_those_of_the_table() -> None:
    found = languages.ragged_sentences().model()
    assert found.log_evidence() == pytest.approx(language_with_eos().log_evidence(), abs=1e-12)


def test_the_evidence_of_independent_steps_is_a_power() -> None:
    assert languages.independent_steps().model().log_evidence() == pytest.approx(
        3 * math.log(0.46), abs=1e-12
    )


@pytest.mark.parametrize(
    ("target", "share"),
    [
        ("last score", 0.5455),
        ("last odds", 0.6),
        ("product of scores", 0.7059),
        ("product of odds", 0.6),
    ],
)
def test_targets_of_the_early_stopper(target: str, share: float) -> None:
    law = languages.early_stopper(2).target(languages.TARGETS[target])
    assert law["0"] == pytest.approx(share, abs=5e-5)


def test_the_tables_name_every_prefix_that_can_be_reached() -> None:
    tables = languages.early_stopper(3).as_json()
    assert sorted(tables["law"]) == ["", "1", "1 1"]
    assert sorted(tables["score"]) == ["0", "1", "1 1", "1 1 1"]


def test_the_page_has_the_figures() -> None:
    docs = Path(__file__).parents[1] / "docs"
    rows = json.loads((docs / "figures" / "peers.json").read_text())
    assert table(rows) in (docs / "peers.md").read_text()
    assert {row["library"] for row in rows if row["passes"]} >= {"llmsmc", "pyro 1.9.2"}
    assert all(row["passes"] for row in rows if row["library"] == "llmsmc")
