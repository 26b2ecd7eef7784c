"""The records as tables in Markdown, and put into a page between two markers."""

from itertools import groupby
from pathlib import Path
from typing import Final

from benchmarks.engine.records import Record, Records, spread

BEGIN: Final = "<!-- measured -->"
END: Final = "<!-- end of what is measured -->"


def tables(records: Records) -> str:
    """Return a table for each set of models, and the versions."""
    parts = []
    for setup, rows in groupby(records.rows(), key=lambda row: row["setup"]):
        lines = [
            f"**{setup}**",
            "",
            "| level | particles | | problems | policy | reward | llmsmc | 8 in flight |",
            "| --: | --: | --- | --: | --: | --: | --: | --: |",
            *map(line, rows),
        ]
        parts.append("\n".join(lines))
    versions = "\n".join(
        f"* {contender}: " + ", ".join(f"{name} {number}" for name, number in found.items())
        for contender, found in records.versions.items()
    )
    return "\n\n".join([*parts, f"Versions, {records.settings['rounds']} rounds:", versions])


def line(row: Record) -> str:
    """Return a line of a table."""
    head = f"| {row['level']} | {row['particles']} | {row['contender']} |"
    if "error" in row:
        reason = " ".join(row["error"].split()).replace("|", "\\|")
        return f"{head} | | | failed: {reason} | |"
    return (
        f"{head} {row['problems']} | {row['policy']:.3g} | {row['reward']:.3g} "
        f"| {spread(row['ratios'])} | {spread(row['together'])} |"
    )


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for tables: accepted are pages with {BEGIN}, {END}.")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
