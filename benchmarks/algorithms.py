"""Every algorithm of the command line on one MiniMath problem, over several seeds.

    python -m benchmarks.algorithms --level 4 --particles 16 --seeds 10 --out runs/algorithms

runs `llmsmc solve --sample-problem LEVEL --algorithm NAME` for each algorithm and seed, reads the
files that it writes, and prints a table in Markdown: the log of the mean evidence with its standard
error, the mean probability of the right answer, how often the leading answer was right, tokens.
Those that promise unbiased evidence have to agree on it. What is done is not run again.
"""

import argparse
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from llmsmc.registry import ALGORITHMS

UNBIASED: Final = (
    "weighted-best-of-n",
    "bootstrap",
    "guided",
    "auxiliary",
    "twisted",
    "resample-move",
    "islands",
    "coalescing",
    "cascade",
    "entropic",
)
OPTIONS: Final = {
    "tempered": "tempered:num_moves=1",
    "particle-gibbs": "particle-gibbs:num_sweeps=4",
}


def main() -> None:
    """Run the missing runs, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--level", type=int, default=4)
    parser.add_argument("--problem", help="the question, in place of a problem of that level")
    parser.add_argument("--answer", help="its answer")
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/algorithms"))
    arguments = parser.parse_args()
    question, answer = problem(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for name in ALGORITHMS for seed in range(arguments.seeds)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        records = list(pool.map(lambda run: solve(run[0], run[1], question, arguments), runs))
    print(f"{question}\n\nThe answer is {answer}.\n")
    print("| algorithm | log-evidence | probability of the answer | right | tokens |")
    print("| --- | --- | --- | --- | --- |")
    for name in ALGORITHMS:
        chosen = [record for (other, _), record in zip(runs, records, strict=True) if other == name]
        print(row(name, answer, chosen))


def problem(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the question and its answer."""
    if arguments.problem is not None:
        return arguments.problem, arguments.answer
    from llmsmc.evaluation.datasets import sample_problem

    drawn = sample_problem(arguments.level, 0)
    return drawn.question, drawn.answer


def solve(name: str, seed: int, question: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one algorithm with one seed, unless its result is there; return the result."""
    path = arguments.out / f"{name}-{seed}.json"
    if not path.exists():
        command = [sys.executable, "-m", "llmsmc", "solve", question, "--out", str(path)]
        command += ["--algorithm", OPTIONS.get(name, name), "--seed", str(seed)]
        command += [] if name == "greedy" else ["--particles", str(arguments.particles)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def row(name: str, answer: str, records: list[dict[str, Any]]) -> str:
    """Return the figures of one algorithm in Markdown."""
    evidence = "-"
    if name in UNBIASED:
        logs = [record["log_evidence"] for record in records]
        top = max(logs)
        values = [math.exp(log - top) for log in logs]
        mean = fmean(values)
        error = stdev(values) / len(values) ** 0.5 / mean
        evidence = f"{top + math.log(mean):.2f} ± {error:.2f}"
    found = [{a["answer"]: a["probability"] for a in record["answers"]} for record in records]
    probability = fmean(answers.get(answer, 0.0) for answers in found)
    right = sum(max(answers, key=lambda a: answers[a]) == answer for answers in found)
    tokens = fmean(record["cost"]["generated_tokens"] for record in records)
    return f"| {name} | {evidence} | {probability:.2f} | {right} of {len(found)} | {tokens:.0f} |"


if __name__ == "__main__":
    main()
