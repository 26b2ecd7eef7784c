"""The records as tables in Markdown."""

from collections.abc import Iterable
from itertools import groupby

from benchmarks.engine.records import Record, Records, spread


def tables(records: Records) -> str:
    """Return a table for each set of models and level, and the versions."""
    rows = records.rows()
    setups = [row["setup"] for row in rows]  # in the order in which they were measured
    rows.sort(key=lambda row: (setups.index(row["setup"]), row["level"], row["particles"]))
    parts = [
        _table(f"**{setup}, level {level}**", of_level)
        for (setup, level), of_level in groupby(rows, key=lambda row: (row["setup"], row["level"]))
    ]
    versions = "\n".join(
        f"* {contender}: " + ", ".join(f"{name} {number}" for name, number in found.items())
        for contender, found in records.versions.items()
    )
    return "\n\n".join([*parts, f"Versions, {records.settings['rounds']} rounds:", versions])


def _table(title: str, rows: Iterable[Record]) -> str:
    lines = [
        title,
        "",
        "| particles | | llmsmc | 8 in flight | problems | policy | reward |",
        "| --: | --- | --: | --: | --: | --: | --: |",
        *map(line, rows),
    ]
    return "\n".join(lines)


def line(row: Record) -> str:
    """Return a line of a table."""
    head = f"| {row['particles']} | {row['contender']} |"
    if "error" in row:
        reason = " ".join(row["error"].split()).replace("|", "\\|")
        return f"{head} failed: {reason} | | | | |"
    return (
        f"{head} {spread(row['ratios'])} | {spread(row['together'])} "
        f"| {row['problems']} | {row['policy']:.3g} | {row['reward']:.3g} |"
    )
