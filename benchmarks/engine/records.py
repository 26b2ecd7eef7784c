"""The measurements so far, on disk after each of them, and the missing ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine.contenders import OURS, TOGETHER

Record = dict[str, Any]


@dataclass
class Records:
    """The records of a benchmark.

    Attributes:
        settings: with which it is run; records of others are not mixed with these.
        versions: of the packages, by contender.
        records: one for each case, round and contender: its units of work, or its error.
        path: where they are kept; None if nowhere.
        clock: "seconds" of the wall, or "processor_seconds".
    """

    settings: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    path: Path | None = None
    clock: str = "seconds"

    @classmethod
    def resumed(
        cls, path: Path | None, settings: dict[str, Any], clock: str = "seconds"
    ) -> "Records":
        """Read the records of a file, without failures, which are tried again."""
        if path is None or not path.exists():
            return cls(settings, path=path, clock=clock)
        found = json.loads(path.read_text())
        if found["settings"] != settings:
            raise SystemExit(
                f"{path} is from a run with other settings. Got {settings}; accepted: "
                f"{found['settings']}, or another file."
            )
        kept = [record for record in found["records"] if "error" not in record]
        return cls(settings, found["versions"], kept, path, clock)

    def find(self, case: Record, contender: str) -> list[Record]:
        """Return the records of a contender in a case, round by round."""
        wanted = {**case, "contender": contender}
        return [record for record in self.records if wanted.items() <= record.items()]

    def add(self, record: Record) -> None:
        """Add a record and write all of them."""
        self.records.append(record)
        self.write()

    def write(self) -> None:
        """Write all records."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".part")
        content = {"settings": self.settings, "versions": self.versions, "records": self.records}
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.replace(self.path)

    def rows(self) -> list[Record]:
        """Return a row for each case and contender, in the order in which they were measured."""
        names = ("setup", "level", "particles", "problems")
        cases = {tuple(r[name] for name in names): None for r in self.records}
        rows = []
        for case in (dict(zip(names, values, strict=True)) for values in cases):
            contenders = {r["contender"]: None for r in self.records if case.items() <= r.items()}
            rows += [self._row(case, contender) for contender in contenders]
        return rows

    def _row(self, case: Record, contender: str) -> Record:
        found = self.find(case, contender)
        errors = [record["error"] for record in found if "error" in record]
        if errors:
            return {**case, "contender": contender, "error": errors[0]}
        units = [unit for record in found for unit in record["units"]]
        tokens = sum(unit["generated_tokens"] for unit in units)
        return {
            **case,
            "contender": contender,
            "problems": max(record["solved"] for record in found),
            "policy": sum(unit["policy_positions"] for unit in units) / tokens,
            "reward": sum(unit["reward_positions"] for unit in units) / tokens,
            "ratios": self._ratios(case, OURS.name, found),
            "together": self._ratios(case, TOGETHER.name, found),
        }

    def _ratios(self, case: Record, ours: str, theirs: Sequence[Record]) -> list[float]:
        """Return the ratio of the tokens a second of llmsmc to a contender's, for each round."""
        rounds = {r["round"]: r["units"] for r in self.find(case, ours) if "units" in r}
        ratios = []
        for record in theirs:
            if record["round"] not in rounds:
                continue
            one, other = rounds[record["round"]], record["units"]
            if TOGETHER.name not in (ours, record["contender"]):
                # Both solve one problem after the other, and one of them may have solved fewer.
                both = min(len(one), len(other))
                one, other = one[:both], other[:both]
            ratios.append(throughput(one, self.clock) / throughput(other, self.clock))
        return ratios


def throughput(units: Sequence[Record], clock: str) -> float:
    """Return generated tokens a second."""
    tokens = sum(unit["generated_tokens"] for unit in units)
    return float(tokens / sum(unit[clock] for unit in units))


def spread(ratios: Sequence[float], precision: str = ".3g") -> str:
    """Return the median and the range of ratios."""
    if not ratios:
        return "–"
    middle, low, high = (
        f"{ratio:{precision}}" for ratio in (median(ratios), min(ratios), max(ratios))
    )
    return f"{middle} ({low} to {high})"
