"""The mathematics of particles alone: the bootstrap filter beside particles and Pyro's SMCFilter.

    python -m benchmarks.particle_mathematics --out docs/figures/particle_mathematics.json \
        --page docs/speed_of_particles.md

runs 100 steps of a linear-Gaussian model, resampled systematically at every step or where the
effective sample size falls below half, and systematic resampling alone. Each library first shows
that its evidence is that of the Kalman filter. Then they take turns, one process and one thread
each; compared are medians over the rounds. The times are those of the processor, so that what
else runs on the machine counts little; the ratios of the wall clock are kept beside them. Nothing
but ratios is written down: a time would be that of one machine.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.page import put_into
from benchmarks.peers.environments import python_of
from llmsmc.models import LinearGaussian

STEPS: Final = 100
MODEL: Final = {
    "initial_mean": 0.0,
    "initial_covariance": 1 / (1 - 0.81),
    "transition_matrix": 0.9,
    "transition_covariance": 1.0,
    "observation_matrix": 1.0,
    "observation_covariance": 1.0,
}
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
PYRO_SIZES: Final = (1_000, 10_000, 100_000)
THRESHOLDS: Final = {1.0: "every step", 0.5: "ESS < N/2"}
LIMIT: Final = 4.0
"""Standard errors by which the mean of an evidence may be off."""
CHECKED: Final = (40, 10_000)
"""Runs, and particles, of the check of an evidence."""
PACKAGE: Final = "llmsmc"
VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Row = dict[str, Any]


class Contender:
    """A library in a process of its own."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        """Talk to a process."""
        self.name, self._process = name, process

    def ask(self, **task: Any) -> dict[str, float]:
        """Hand in a task; wait for its times and its value."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(task), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended.")
        result: dict[str, float] = json.loads(line)
        return result


@contextmanager
def contender(name: str, python: Path | str, setting: dict[str, Any]) -> Iterator[Contender]:
    """Start a library; end it."""
    program = Path(__file__).parent / "peers" / "runs" / f"timed_{name}.py"
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [python, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | dict.fromkeys(VARIABLES, "1") | {"PYTHONPATH": path},
    ) as process:
        assert process.stdin is not None
        print(json.dumps(setting), file=process.stdin, flush=True)
        yield Contender(name, process)
        process.stdin.close()


def main() -> None:
    """Time the libraries and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--environments", type=Path, default=Path(".peers"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path, help="whose table is replaced")
    arguments = parser.parse_args()
    observations, log_evidence = data()
    setting = {"model": MODEL, "observations": observations}
    particles = python_of("particles", arguments.environments)
    with (
        contender(PACKAGE, sys.executable, setting) as ours,
        contender("particles", particles, setting) as theirs,
        contender("pyro", sys.executable, setting) as pyro,
    ):
        checks = [check(library, log_evidence) for library in (ours, theirs, pyro)]
        rows = list(filters(ours, theirs, pyro, arguments.sizes, arguments.rounds))
        rows.append(resampling(ours, theirs, max(arguments.sizes), 4 * arguments.rounds))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        found = {"evidence": checks, "ratios": rows}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    text = table(rows)
    print(text)
    if arguments.page is not None:
        put_into(arguments.page, text)


def data() -> tuple[list[float], float]:
    """Return observations of the model, and their exact log-evidence."""
    source = np.random.default_rng(0)
    state = source.normal(0.0, math.sqrt(MODEL["initial_covariance"]))
    observations = []
    for _ in range(STEPS):
        observations.append(float(source.normal(state, 1.0)))
        state = source.normal(MODEL["transition_matrix"] * state, 1.0)
    seen = [torch.tensor([y], dtype=torch.float64) for y in observations]
    return observations, LinearGaussian(**MODEL).log_evidence(seen)


def check(library: Contender, log_evidence: float) -> Row:
    """Compare the evidence of a library with the exact one."""
    runs, size = CHECKED
    asked = {"task": "check", "size": size}
    found = {}
    for threshold, name in THRESHOLDS.items():
        values = [
            library.ask(**asked, threshold=threshold, seed=seed)["value"] for seed in range(runs)
        ]
        ratios = np.exp(np.array(values) - log_evidence)
        found[name] = float((ratios.mean() - 1) / (ratios.std(ddof=1) / math.sqrt(runs)))
        print(library.name, name, f"z = {found[name]:.1f}", file=sys.stderr)
        if not abs(found[name]) < LIMIT:
            raise SystemExit(f"The evidence of {library.name} is off by {found[name]:.1f} errors.")
    return {"library": library.name, "z": found}


def filters(
    ours: Contender, theirs: Contender, pyro: Contender, sizes: Sequence[int], rounds: int
) -> Iterator[Row]:
    """Let the libraries take turns at the filter."""
    for size in sizes:
        libraries = [ours, theirs, pyro] if size in PYRO_SIZES else [ours, theirs]
        # Where a run is short, more of them cost nothing.
        count = max(rounds, min(8 * rounds, rounds * 40_000 // size))
        for threshold, name in THRESHOLDS.items():
            asked = {"task": "filter", "size": size, "threshold": threshold}
            yield from compared(libraries, count, f"filter, {name}", size, asked)


def resampling(ours: Contender, theirs: Contender, size: int, rounds: int) -> Row:
    """Let the libraries take turns at systematic resampling alone."""
    asked = {"task": "resample", "size": size}
    (row,) = compared([ours, theirs], rounds, "systematic resampling alone", size, asked)
    return row


def compared(
    libraries: Sequence[Contender], rounds: int, work: str, size: int, asked: dict[str, Any]
) -> Iterator[Row]:
    """Yield how many times as fast as each of the others the first library is."""
    rounds_of: dict[str, list[dict[str, float]]] = {library.name: [] for library in libraries}
    for number in range(-1, rounds):  # the first one compiles and warms up, and does not count
        for library in libraries:
            times = library.ask(**asked, seed=1000 + number)
            if number >= 0:
                rounds_of[library.name].append(times)
    first, *others = libraries
    for other in others:
        row: Row = {"work": work, "size": size, "against": other.name, "rounds": rounds}
        for clock in ("processor", "wall"):
            mine, others_ = (
                np.array([times[clock] for times in rounds_of[library.name]])
                for library in (first, other)
            )
            ratios = others_ / mine
            row[clock] = {
                "ratio": float(np.median(others_) / np.median(mine)),
                "quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
                "range": [float(ratios.min()), float(ratios.max())],
            }
        print(work, size, other.name, row["processor"], file=sys.stderr)
        yield row


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| work | N | beside | times as fast | of the rounds, smallest and largest | by the wall "
        "clock |",
        "| --- | --: | --- | --: | --: | --: |",
    ]
    for row in rows:
        spread = " to ".join(f"{value:.2f}" for value in row["processor"]["range"])
        lines.append(
            f"| {row['work']} | {row['size']:,} | {row['against']} | "
            f"{row['processor']['ratio']:.2f} | {spread} | {row['wall']['ratio']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
