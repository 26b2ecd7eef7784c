"""The table of algorithms and numbers of particles on MiniMath.

    python -m benchmarks.minimath_table --out runs/table --limit 250

runs `llmsmc eval` once for each algorithm and number of particles, each into a folder of its own,
and prints the table in Markdown. What is done is not run again, so the command can be interrupted
and repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

ALGORITHMS: Final = ("self-consistency", "best-of-n", "weighted-best-of-n", "bootstrap")
PARTICLES: Final = (1, 4, 16, 32)

Run = tuple[str, int]
"""Algorithm and number of particles."""


def main() -> None:
    """Run the missing runs, then print the table."""
    arguments = _arguments()
    runs: list[Run] = [("greedy", 1)]
    runs += [(name, count) for count in arguments.particles for name in ALGORITHMS]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        summaries = dict(
            zip(runs, pool.map(lambda run: evaluate(run, arguments), runs), strict=True)
        )
    print(table(summaries))


def evaluate(run: Run, arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate one algorithm with one number of particles; return its summary."""
    name, count = run
    folder: Path = arguments.out / f"{name}-{count}"
    command = [sys.executable, "-m", "llmsmc", "eval", arguments.dataset, "--algorithm", name]
    command += ["--limit", str(arguments.limit), "--out", str(folder)]
    command += [] if name == "greedy" else ["--particles", str(count)]
    command += arguments.options
    threads = str(max(1, (os.cpu_count() or 1) // arguments.jobs))
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    print(f"{name} with {count}: done", file=sys.stderr)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def table(summaries: dict[Run, dict[str, Any]]) -> str:
    """Return the accuracies in percent with standard errors, and tokens a problem, in Markdown."""
    levels = [row["level"] for row in next(iter(summaries.values()))["levels"]]
    head = ["algorithm", "particles", *(f"level {level}" for level in levels), "all", "tokens"]
    lines = [head, ["---"] * len(head)]
    for (name, count), summary in summaries.items():
        cells = [_cell(row) for row in (*summary["levels"], summary["overall"])]
        lines.append([name, str(count), *cells, f"{summary['overall']['tokens']:,.0f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(figures: dict[str, Any]) -> str:
    return f"{100 * figures['accuracy']:.1f} ± {100 * figures['standard_error']:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--dataset", default="minimath-500")
    parser.add_argument("--limit", type=int, default=250, help="problems, the first ones")
    parser.add_argument("--particles", type=int, nargs="+", default=list(PARTICLES))
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--jobs", type=int, default=1, help="evaluations side by side")
    parser.add_argument("options", nargs="*", help="options of `llmsmc eval`, behind --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
