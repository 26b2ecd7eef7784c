"""What a particle filter is worth with a real model on real questions: `docs/real_models.md`.

    python -m benchmarks.real_questions run WORK CELL... --policy FILE --questions FILE
    python -m benchmarks.real_questions page WORK

`run` evaluates cells, one after the other, each in a folder of its own in WORK, in which it is
taken up again. `page` makes the tables of all cells that are there. Every cell has the same
questions, seeds and prompt. The N samples of `samples` are independent, so that its first n are the
samples of a vote, and of best of n, for each n up to N.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np

from benchmarks.page import put_into
from llmsmc import evaluate
from llmsmc.ablations.comparing import verdict
from llmsmc.ablations.intervals import bounded_interval
from llmsmc.evaluation.datasets import load_file
from llmsmc.evaluation.solutions import read_solutions
from llmsmc.grading.grades import equivalence_classes, grade

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
PAGE: Final = DOCS / "real_models.md"
FIGURES: Final = DOCS / "figures" / "real_questions.json"

QUESTIONS: Final = "1:200"
SEED: Final = 0
SIZES: Final = (1, 4, 8, 16)
SETTINGS: Final[dict[str, Any]] = {
    "system": "worked",
    "temperature": 0.7,
    "max_tokens": 300,
    "max_tokens_per_step": 160,
    "answer_forms": "boxed,last-number",
    "aggregation": "last",
}

PROBE: Final = "the probe"


@dataclass(frozen=True)
class Cell:
    """An evaluation.

    Attributes:
        algorithm: its name.
        particles: their number.
        reward: what is in place of the reward: a text of the notation, or a key of the folders.
        settings: other settings than those of the others.
    """

    algorithm: str
    particles: int
    reward: str | None = None
    settings: Mapping[str, Any] = None  # type: ignore[assignment]


CELLS: Final[dict[str, Cell]] = {
    "greedy": Cell("greedy", 1),
    "samples": Cell("weighted-best-of-n", 16, "probe"),
    **{f"filter-{n}": Cell("bootstrap", n, "probe") for n in (4, 8, 16)},
    **{f"dvts-{n}": Cell("dvts", n, "probe") for n in (4, 8, 16)},
    "filter-16-own": Cell("bootstrap", 16, "own-log-prob", {"aggregation": "product"}),
    "filter-16-arithmetic": Cell("bootstrap", 16, "arithmetic", {"aggregation": "product"}),
    "filter-16-adapter": Cell("bootstrap", 16, "adapter"),
    "filter-16-ratio": Cell("bootstrap", 16, "ratio"),
    "filter-16-answer": Cell("bootstrap", 16, "answer"),
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method has come to on each question.

    Attributes:
        name: of the method.
        size: N.
        right: by question, the share of its answers that are right: 0 or 1, or the mean over
            answers that are equally good.
        probability: by question, the probability that it gives to the right answer.
        tokens: generated a question.
        seconds: a question.
        outside: the share of the time that was spent outside of the policy; None where not known.
        positions: of a reward network, a question.
    """

    name: str
    size: int
    right: dict[str, float]
    probability: dict[str, float]
    tokens: float
    seconds: float | None = None
    outside: float | None = None
    positions: float | None = None


def run(work: Path, names: Sequence[str], policy: str, questions: str, **rewards: str) -> None:
    """Evaluate cells that are not there, or not whole."""
    for name in names:
        cell = CELLS[name]
        settings = SETTINGS | dict(cell.settings or {})
        if cell.reward is not None:
            settings["reward"] = rewards.get(cell.reward, cell.reward)
        found = evaluate(
            Path(questions),
            cell.algorithm,
            SEED,
            cell.particles if cell.algorithm != "greedy" else None,
            questions=QUESTIONS,
            out=work / name,
            in_flight=max(1, 128 // cell.particles),
            solutions="all" if name == "samples" else "selected",
            policy=policy,
            **settings,
        )
        print(name, f"{found.accuracy:.1%}", flush=True)


def outcome_of(name: str, label: str, size: int, folder: Path) -> Outcome:
    """Return what an evaluation has come to."""
    results = _results(folder)
    costs = [each["cost"] for each in results]
    seconds = fmean(each["seconds"] for each in results)
    inside = sum(cost["policy_seconds"] for cost in costs)
    total = sum(cost["policy_seconds"] + cost["reward_seconds"] + _others(cost) for cost in costs)
    return Outcome(
        label,
        size,
        {each["id"]: float(each["correct"]) for each in results},
        {each["id"]: each["probability_correct"] for each in results},
        fmean(cost["generated_tokens"] for cost in costs),
        seconds,
        1 - inside / total if total else None,
        fmean(cost["reward_positions"] for cost in costs),
    )


def outcomes_of_samples(folder: Path, references: Mapping[str, str]) -> list[Outcome]:
    """Return what a vote and best of n come to with the first n samples of each question."""
    kept = read_solutions(folder)
    rights = defaultdict[tuple[str, int], dict[str, float]](dict)
    shares = defaultdict[tuple[str, int], dict[str, float]](dict)
    tokens = defaultdict[int, list[int]](list)
    for name, each in kept.items():
        samples = each["solutions"]
        answers = [sample["answer"] for sample in samples]
        classes = equivalence_classes(answer for answer in answers if answer is not None)
        is_right = {
            answer: grade(answer, references[name]) == "right" for answer in set(classes.values())
        }
        told = [None if answer is None else classes[answer] for answer in answers]
        scores = [
            -math.inf if sample["log_weight"] is None else sample["log_weight"]
            for sample in samples
        ]
        for size in SIZES:
            parts = told[:size], scores[:size]
            tokens[size].append(sum(sample["num_tokens"] for sample in samples[:size]))
            weights = np.exp(np.array(parts[1]) - max(parts[1]))
            for method, masses in {
                "majority": np.ones(size),
                "weighted best of N": weights,
                "best of N": (weights == 1).astype(float),
            }.items():
                votes = defaultdict[str | None, float](float)
                for answer, mass in zip(parts[0], masses, strict=True):
                    votes[answer] += float(mass)
                given = {answer: vote for answer, vote in votes.items() if answer is not None}
                best = [a for a, vote in given.items() if vote >= max(given.values()) - 1e-12]
                key = method, size
                rights[key][name] = fmean(is_right[a] for a in best) if best else 0.0
                right = sum(vote for a, vote in given.items() if is_right[a])
                shares[key][name] = right / sum(votes.values())
            hits = [answer is not None and is_right[answer] for answer in told]
            rights["one of N is right", size][name] = _coverage(len(hits), sum(hits), size)
            shares["one of N is right", size][name] = rights["one of N is right", size][name]
    return [
        Outcome(method, size, values, shares[method, size], fmean(tokens[size]))
        for (method, size), values in rights.items()
    ]


def _coverage(count: int, right: int, size: int) -> float:
    """Return the probability that one of `size` samples is right (arXiv 2107.03374, eq. 1)."""
    if count - right < size:
        return 1.0
    return 1 - math.prod(1 - size / k for k in range(count - right + 1, count + 1))


def _results(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _others(cost: Mapping[str, Any]) -> float:
    return float(cost.get("other_seconds", 0.0))


def compared(left: Outcome, right: Outcome) -> dict[str, Any]:
    """Return the difference of two methods on the questions of both, with interval and verdict."""
    names = sorted(left.right.keys() & right.right.keys())
    differences = np.array([left.right[name] - right.right[name] for name in names])
    low, high = bounded_interval(differences)
    return {
        "left": f"{left.name}, {left.size}",
        "right": f"{right.name}, {right.size}",
        "num_questions": len(names),
        "difference": float(differences.mean()),
        "low": low,
        "high": high,
        "verdict": verdict(low, high, "greater", 0.0),
    }


def outcomes(work: Path, questions: str) -> list[Outcome]:
    """Return what all evaluations that are there have come to."""
    examples = load_file(questions).examples
    references = {example.id: example.answer for example in examples}
    found = list[Outcome]()
    for name, cell in CELLS.items():
        folder = work / name
        if not (folder / "summary.json").exists():
            continue
        if name == "samples":
            found += outcomes_of_samples(folder, references)
        else:
            found.append(
                outcome_of(name, name.replace(f"-{cell.particles}", ""), cell.particles, folder)
            )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run cells, or make the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("work", type=Path)
    parser.add_argument("cells", nargs="*", choices=[*CELLS, []])
    parser.add_argument("--policy")
    parser.add_argument("--questions", required=True)
    parser.add_argument("--probe", help="the folder of the probe")
    parser.add_argument("--adapter", help="the folder of the adapter")
    parser.add_argument("--ratio", help="the reward of the larger model, as ratio:FILE")
    given = parser.parse_args(arguments)
    if given.what == "run":
        named = {name: getattr(given, name) for name in ("probe", "adapter", "ratio")}
        rewards = {name: text for name, text in named.items() if text is not None}
        run(given.work, given.cells, given.policy, given.questions, **rewards)
        return
    found = outcomes(given.work, given.questions)
    report = [
        {
            "method": each.name,
            "particles": each.size,
            "num_questions": len(each.right),
            "accuracy": fmean(each.right.values()),
            "probability": fmean(each.probability.values()),
            "tokens": each.tokens,
            "seconds": each.seconds,
            "outside_the_policy": each.outside,
            "reward_positions": each.positions,
        }
        for each in found
    ]
    by_key = {(each.name, each.size): each for each in found}
    claims = [
        compared(by_key["filter", size], by_key[other, size])
        for size in SIZES
        for other in ("majority", "best of N", "weighted best of N", "dvts")
        if ("filter", size) in by_key and (other, size) in by_key
    ]
    FIGURES.write_text(json.dumps({"cells": report, "claims": claims}, indent=1) + "\n")
    put_into(PAGE, tables(report, claims))


def tables(report: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of the page."""
    head = ["method", "N", "accuracy", "P(right)", "tokens a question"]
    rows = [
        [
            each["method"],
            str(each["particles"]),
            f"{each['accuracy']:.1%}",
            f"{each['probability']:.1%}",
            f"{each['tokens']:,.0f}",
        ]
        for each in report
    ]
    lines = [_table(head, rows), ""]
    head = ["left", "right", "difference, points", "95 % interval", "left is above"]
    rows = [
        [
            each["left"],
            each["right"],
            f"{100 * each['difference']:+.1f}",
            f"{100 * each['low']:+.1f} to {100 * each['high']:+.1f}",
            each["verdict"],
        ]
        for each in claims
    ]
    return "\n".join([*lines, _table(head, rows)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
