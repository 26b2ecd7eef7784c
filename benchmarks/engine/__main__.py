"""Tokens a second: this engine, other libraries, plain generation, a bare loop.

    python -m benchmarks.engine --rounds 5 --out docs/figures/engine.json --page docs/speed.md

Each contender is a process of its own, with one thread, that works only while it is asked; peers
have environments of their own, which are made first. Every measurement is written at once, and the
same command goes on where it was interrupted. Who fails is reported with the reason.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.engine.cases import WARM_UP, Case, Setup, minimath, random_weights
from benchmarks.engine.contenders import ALL, BARE_LOOP, OURS, Contender
from benchmarks.engine.process import ContenderFailedError, Process
from benchmarks.engine.records import Record, Records
from benchmarks.engine.tables import tables
from benchmarks.page import put_into


def main() -> None:
    """Measure, and print the tables."""
    arguments = parsed()
    contenders = [each for each in ALL if each.name in arguments.contenders]
    environments: Path = arguments.environments
    environments.mkdir(parents=True, exist_ok=True)
    cases = minimath(arguments.particles, arguments.levels, arguments.problems)
    if arguments.random_particles:
        cases += random_weights(environments, arguments.random_particles)
    settings = {
        name: getattr(arguments, name) for name in ("rounds", "problems", "seconds", "patience")
    }
    records = Records.resumed(arguments.out, settings, arguments.clock)
    for setup, of_setup in groupby(cases, key=lambda case: case.setup):
        with Bench(setup, contenders, records, environments) as bench:
            bench.measure(list(of_setup))
    text = tables(records)
    print(text)
    if arguments.page is not None:
        put_into(arguments.page, text)


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    names = [each.name for each in ALL]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--particles", type=int, nargs="*", default=[8, 32, 128])
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="after which no further problem is begun"
    )
    parser.add_argument(
        "--patience", type=float, default=1800.0, help="seconds after which a contender has failed"
    )
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--random-particles", type=int, nargs="*", default=[8], help="of the larger model, if any"
    )
    parser.add_argument("--environments", type=Path, default=Path(".peers"))
    parser.add_argument("--clock", choices=["seconds", "processor_seconds"], default="seconds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path, help="whose tables are replaced")
    return parser.parse_args()


class Bench:
    """The contenders with one set of models; a context, which ends their processes."""

    def __init__(
        self,
        setup: Setup,
        contenders: Sequence[Contender],
        records: Records,
        environments: Path,
    ) -> None:
        """Make a bench without processes."""
        self._setup, self._contenders, self._records = setup, contenders, records
        self._environments = environments
        self._processes: dict[str, Process] = {}
        self._latest: tuple[Record, list[Any]] | None = None  # a task of ours and its schedules

    def __enter__(self) -> "Bench":
        """Return the bench."""
        return self

    def __exit__(self, *error: object) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.close()

    def measure(self, cases: Sequence[Case]) -> None:
        """Measure all contenders in all cases, in rounds."""
        for number in range(self._records.settings["rounds"]):
            for case in cases:
                self._round(case, number)

    def _round(self, case: Case, number: int) -> None:
        """Measure the missing contenders; llmsmc first, whose schedule the bare loop follows."""
        task = case.task(number, self._records.settings["seconds"])
        first, others = self._contenders[:1], self._contenders[1:]
        turn = number % max(len(others), 1)
        for contender in (*first, *others[turn:], *others[:turn]):
            found = self._records.find(case.key, contender.name)
            if any("error" in record or record["round"] == number for record in found):
                continue
            print(case.key, number, contender.name, file=sys.stderr, flush=True)
            record = {**case.key, "contender": contender.name, "round": number}
            try:
                self._records.add({**record, **self._answer(contender, case, task)})
            except ContenderFailedError as error:
                print(error, file=sys.stderr, flush=True)
                self._records.add({**record, "error": str(error)})
                self._stop(contender)

    def _answer(self, contender: Contender, case: Case, task: dict[str, Any]) -> Record:
        """Return the measurements of a contender on a task."""
        process = self._started(contender, case)
        if contender == BARE_LOOP:
            task = {**task, "schedules": self._schedules(case, task)}
        units = process.ask(task)["units"]
        if contender == OURS:
            self._latest = task, [unit.pop("schedule") for unit in units]
        solved = case.problems if contender.in_flight > 1 else len(units)
        return {"solved": solved, "units": units}

    def _schedules(self, case: Case, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the schedules of the runs of llmsmc with the same seed."""
        if self._latest is None or self._latest[0] != task:
            units = self._started(OURS, case).ask(task)["units"]
            self._latest = task, [unit.pop("schedule") for unit in units]
        return self._latest[1]

    def _started(self, contender: Contender, case: Case) -> Process:
        """Return the process of a contender, which has worked before."""
        if contender.name not in self._processes:
            settings = self._records.settings
            process = Process(
                contender, self._setup.models, self._environments, settings["patience"]
            )
            self._processes[contender.name] = process
            self._records.versions[contender.name] = process.versions
            task = case.task(0, settings["seconds"]) | WARM_UP
            task["questions"] = task["questions"][:1]
            if contender == BARE_LOOP:
                task["schedules"] = self._schedules(case, task)
            process.ask(task)
        return self._processes[contender.name]

    def _stop(self, contender: Contender) -> None:
        process = self._processes.pop(contender.name, None)
        if process is not None:
            process.close()


if __name__ == "__main__":
    main()
