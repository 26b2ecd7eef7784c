"""One table of pairs for several graders: what does each take, or refuse, wrongly?

    python -m benchmarks.graders --out docs/figures/graders.json --page docs/grading.md

installs Math-Verify, lm-eval and lighteval into environments of their own (some minutes, once),
has each grader grade every pair of `tests/grading_pairs.tsv`, and puts two tables into the page: of
each grader in all, and of each by kinds. A false positive is a wrong answer that is held to be
right, a false negative a right one that is not.
"""

import argparse
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.graders.pairs import Pair, read_pairs
from benchmarks.page import put_into
from benchmarks.peers.environments import python_of
from llmsmc.grading.grades import grade
from llmsmc.grading.pool import POOL

PEERS: Final = ("math_verify", "lm_eval", "lighteval")
NOT_COMPARED: Final = ("error", "timeout")

Line = dict[str, Any]
"""A grader, its version, and its verdict on each pair in order."""


def main() -> None:
    """Grade the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--environments", type=Path, default=Path(".peers"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    pairs = read_pairs()
    rows = [of_grader(pairs, line) for line in lines(pairs, arguments.environments)]
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.page is not None:
        put_into(arguments.page, tables(rows))
    print(tables(rows))


def lines(pairs: Sequence[Pair], environments: Path) -> Iterator[Line]:
    """Yield what each grader says, this library first."""
    yield {"grader": "llmsmc", "version": "", "verdicts": own_verdicts(pairs)}
    POOL.stop()
    task = json.dumps([[pair.answer, pair.reference] for pair in pairs])
    for peer in PEERS:
        program = Path(__file__).parent / "runs" / f"with_{peer}.py"
        command = [python_of(peer, environments), program]
        done = subprocess.run(command, input=task, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{program.name} failed:\n{done.stderr[-2000:]}")
        yield from map(json.loads, done.stdout.splitlines())


def own_verdicts(pairs: Sequence[Pair]) -> list[str]:
    """Return what this library says of each pair."""
    return [grade(pair.answer, pair.reference) for pair in pairs]


def of_grader(pairs: Sequence[Pair], line: Line) -> Line:
    """Return the counts of one grader by kind, and the pairs that it gets wrong."""
    kinds: dict[str, dict[str, int]] = {}
    mistakes = []
    for pair, verdict in zip(pairs, line["verdicts"], strict=True):
        counts = kinds.setdefault(
            pair.kind,
            {"right": 0, "wrong": 0, "false positives": 0, "false negatives": 0, "not compared": 0},
        )
        counts["right" if pair.is_right else "wrong"] += 1
        counts["not compared"] += verdict in NOT_COMPARED
        if (verdict == "right") != pair.is_right:
            counts["false negatives" if pair.is_right else "false positives"] += 1
            mistakes.append([pair.answer, pair.reference, verdict])
    return {
        "grader": line["grader"],
        "version": line["version"],
        "kinds": kinds,
        "mistakes": mistakes,
    }


def total(row: Line, count: str) -> int:
    """Return a count of a grader over all kinds."""
    kinds: Mapping[str, Mapping[str, int]] = row["kinds"]
    return sum(counts[count] for counts in kinds.values())


def tables(rows: Sequence[Line]) -> str:
    """Return the counts as two tables in Markdown: of each grader, and of each by kinds."""
    right, wrong = total(rows[0], "right"), total(rows[0], "wrong")
    text = [
        f"Of {right + wrong} pairs {right} are right and {wrong} are wrong.",
        "",
        "| grader | version | false positives | false negatives | errors and timeouts |",
        "| --- | --- | --: | --: | --: |",
    ]
    for row in rows:
        positives, negatives = total(row, "false positives"), total(row, "false negatives")
        text.append(
            f"| {row['grader']} | {row['version']} "
            f"| {positives} ({positives / wrong:.1%}) | {negatives} ({negatives / right:.1%}) "
            f"| {total(row, 'not compared')} |"
        )
    text += [
        "",
        "By kinds, false positives and false negatives:",
        "",
        "| kind | right | wrong | " + " | ".join(row["grader"] for row in rows) + " |",
        "| --- | --: | --: |" + " --: |" * len(rows),
    ]
    for kind, counts in rows[0]["kinds"].items():
        cells = [
            f"{row['kinds'][kind]['false positives']}, {row['kinds'][kind]['false negatives']}"
            for row in rows
        ]
        text.append(
            f"| {kind} | {counts['right']} | {counts['wrong']} | " + " | ".join(cells) + " |"
        )
    return "\n".join(text)


if __name__ == "__main__":
    main()
