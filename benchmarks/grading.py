"""The grading of answers: reference solutions, and hostile strings.

    python -m benchmarks.grading --data data --hostile 10000

prints two tables in Markdown. The first has for each benchmark how many of its reference solutions
have an answer that can be extracted and is right, how many are right by Math-Verify alone, without
the comparisons at sight, and how many are held to be right for the answer of another problem. The
second has the verdicts on hostile strings, and what grading them takes.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.hostile_strings import fixed, random_strings
from llmsmc.evaluation.datasets import load_file
from llmsmc.grading.grades import COMPARISON_SECONDS, extract_answer, grade
from llmsmc.grading.grammar import read
from llmsmc.grading.pool import POOL
from llmsmc.grading.text import bare, normalized

SETS: Final = {
    "MATH-500": "math500.jsonl",
    "AIME 2024": "aime24.jsonl",
    "GSM8K": "gsm8k_test.jsonl",
}
EXPECTED: Final = {"MATH-500": 500, "AIME 2024": 30, "GSM8K": 1319}


def main() -> None:
    """Grade and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the sets, as JSON lines"
    )
    parser.add_argument("--hostile", type=int, default=0, help="how many hostile strings")
    arguments = parser.parse_args()
    print("| set | problems | extracted | right | by Math-Verify alone | another's right |")
    print("| --- | --: | --: | --: | --: | --: |")
    for name, file in SETS.items():
        if (arguments.data / file).is_file():
            print(_row(name, read_set(arguments.data / file)))
    if arguments.hostile:
        print()
        print(hostile_table(arguments.hostile))


Pair = tuple[str, str]
"""A reference solution and the answer of its problem."""


def read_set(path: Path) -> list[Pair]:
    """Return the reference solutions in a file, each with the answer as the library reads it."""
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line.strip()]
    answers = [example.answer for example in load_file(str(path)).examples]
    solutions = [row.get("solution", row["answer"] if "answer" in row else "") for row in rows]
    return list(zip(solutions, answers, strict=True))


@dataclass(frozen=True)
class Findings:
    """The verdicts on a set.

    Attributes:
        num_problems: how many problems there are.
        not_extracted: answers of the problems whose solution has no answer.
        not_right: answer in the solution, and answer, of those that are not equal.
        wrongly_right: answers of two problems that differ and are held to be equal.
    """

    num_problems: int
    not_extracted: list[str]
    not_right: list[Pair]
    wrongly_right: list[Pair]


def examine(pairs: list[Pair]) -> Findings:
    """Grade each solution by its own answer, and by the answer of the next problem."""
    extracted = [extract_answer(solution) for solution, _ in pairs]
    graded = [(str(found), answer) for found, (_, answer) in zip(extracted, pairs, strict=True)]
    answers = [answer for _, answer in pairs]
    others = list(zip(answers, answers[1:] + answers[:1], strict=True))
    return Findings(
        num_problems=len(pairs),
        not_extracted=[
            answer for found, (_, answer) in zip(extracted, pairs, strict=True) if found is None
        ],
        not_right=[pair for pair in graded if grade(*pair) != "right"],
        wrongly_right=[pair for pair in others if _differ(*pair) and grade(*pair) == "right"],
    )


def _differ(answer: str, other: str) -> bool:
    if normalized(answer) == normalized(other):
        return False
    trees = read(answer), read(other)
    return {tree.kind for tree in trees} != {"number"} or trees[0].value != trees[1].value


def _row(name: str, pairs: list[Pair]) -> str:
    found = examine(pairs)
    count = found.num_problems
    by_algebra = sum(
        POOL.ask("compare", COMPARISON_SECONDS, bare(answer), bare(extract_answer(text) or ""))
        == "equal"
        for text, answer in pairs
    )
    return (
        f"| {name} | {count} | {count - len(found.not_extracted)} "
        f"| {count - len(found.not_right)} | {by_algebra} | {len(found.wrongly_right)} |"
    )


def hostile_table(count: int) -> str:
    """Grade hostile strings, and return the verdicts and the times in Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "evaluated"
        strings = list(fixed(canary))
        strings += random_strings(count - len(strings))
        verdicts, seconds = Counter[str](), list[float]()
        started, before = POOL.num_started, os.times()
        for text in strings:
            start = time.perf_counter()
            answer = extract_answer(rf"\boxed{{{text}}}")
            verdicts[grade(answer, r"\frac{\sqrt{3}}{2}")] += 1
            verdicts[grade(text, r"\frac{\sqrt{3}}{2}")] += 1
            seconds.append(time.perf_counter() - start)
        POOL.stop()
        spent = sum(os.times()[:4]) - sum(before[:4])
        evaluated = canary.exists()
    names = ("wrong", "no answer", "unreadable", "timeout", "error", "right")
    lines = [
        "| strings | " + " | ".join(names) + " | processes started | processor time, s "
        "| seconds a string, median | at most | evaluated |",
        "| --: " * (len(names) + 6) + "|",
        f"| {len(strings):,} | " + " | ".join(str(verdicts[name]) for name in names) + " | "
        f"{POOL.num_started - started} | {spent:.0f} | {median(seconds):.4f} "
        f"| {max(seconds):.1f} | {'yes' if evaluated else 'none'} |",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
