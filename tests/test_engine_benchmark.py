"""The benchmark of the engine: its arithmetic, and its smallest run without other libraries."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine.__main__ import Bench
from benchmarks.engine.cases import minimath
from benchmarks.engine.contenders import BARE_LOOP, GENERATE, OURS, TOGETHER
from benchmarks.engine.records import Records
from benchmarks.engine.tables import tables
from benchmarks.page import BEGIN, END, put_into

SETTINGS = {"rounds": 1, "problems": 2, "seconds": 60.0, "patience": 600.0}


def unit(tokens: int, seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "generated_tokens": tokens,
        "policy_positions": 2 * tokens,
        "reward_positions": tokens,
    }


def records_of(**units: list[dict[str, Any]]) -> Records:
    case = {"setup": "s", "level": 3, "particles": 2, "problems": 2, "round": 0}
    found = Records(SETTINGS)
    for name, each in units.items():
        contender = {"ours": OURS.name, "together": TOGETHER.name}.get(name, name)
        found.add({**case, "contender": contender, "solved": len(each), "units": each})
    return found


def test_ratios_are_over_the_problems_that_both_have_solved() -> None:
    found = records_of(ours=[unit(100, 1.0), unit(100, 9.0)], slow=[unit(50, 5.0)])
    assert found.rows()[1]["ratios"] == [pytest.approx(10.0)]  # over both problems: 2


def test_problems_in_flight_count_as_a_whole() -> None:
    found = records_of(ours=[unit(100, 1.0), unit(100, 9.0)], together=[unit(200, 5.0)])
    assert found.rows()[1]["ratios"] == [pytest.approx(0.5)]


@pytest.mark.quick
def test_the_smallest_run_and_the_same_once_more(tmp_path: Path) -> None:
    path, contenders = tmp_path / "engine.json", [OURS, BARE_LOOP, GENERATE]
    cases = minimath([2], [1], 1)
    records = Records.resumed(path, SETTINGS)
    with Bench(cases[0].setup, contenders, records, tmp_path) as bench:
        bench.measure(cases)
    ours, bare, plain = (each["units"][0] for each in records.records)
    for name in ("generated_tokens", "policy_positions"):
        assert bare[name] == ours[name] > 0
    assert ours["reward_positions"] > 0 and bare["reward_positions"] > 0
    assert plain["reward_positions"] == 0
    # With a cache a token is computed once, and the prompt once for each of two answers.
    assert plain["policy_positions"] < 2 * 1024
    again = Records.resumed(path, SETTINGS)
    with Bench(cases[0].setup, contenders, again, tmp_path) as bench:
        bench.measure(cases)
        assert not bench._processes
    assert again.records == records.records


def test_failures_are_rows_and_tables_go_between_the_markers(tmp_path: Path) -> None:
    found = records_of(ours=[unit(100, 1.0)])
    found.add(
        {"setup": "s", "level": 3, "particles": 2, "problems": 2, "round": 0,
         "contender": "broken", "error": "no | such thing"}
    )  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into(page, tables(found))
    text = page.read_text()
    assert "failed: no \\| such thing" in text and "old" not in text
    assert text.startswith("before") and text.endswith("after\n")
