"""What methods have come to on each question, read from the folders of their cells.

Folders are only read here, so that it does not matter whether something is at work in them. What is
not whole has no outcome.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import torch

from benchmarks.real_questions.plan import CELLS, LARGE, REWARDS, SIZES, SMALL, Cell
from benchmarks.real_questions.votes import (
    Vote,
    best,
    by_question,
    calibration_error,
    groups,
    told,
    vote,
)
from llmsmc.evaluation.result_lines import parse_results
from llmsmc.evaluation.runner import pass_at_k
from llmsmc.evaluation.solutions import FILE, read_solutions
from llmsmc.models.rewards.aggregation import aggregation
from llmsmc.storage.strict_files import read_bytes
from llmsmc.training.lines import read_rows
from llmsmc.training.samples import is_solution
from llmsmc.training.scoring import Labelled, Scores, joined, scores_in

MAJORITY, BEST, WEIGHTED, COVERAGE, GREEDY, FILTER, DVTS = (
    "majority",
    "best of N",
    "weighted best of N",
    "one of N is right",
    "greedy",
    "filter",
    "DVTS",
)
METHODS: Final = {"greedy": GREEDY, "bootstrap": FILTER, "dvts": DVTS}
"""Name of an algorithm -> the method, as a reader calls it."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method has come to; figures of costs are means over the questions.

    Attributes:
        method: its name.
        size: N.
        right: by question, the share of its answers that is right.
        probability: by question, the probability that it gives to the right answer.
        tokens: that it generates.
        reward: the name of its reward in `REWARDS`; None where it has none.
        is_larger: whether it is one of the larger model.
        quantization: of the policy.
        calibration: the expected calibration error of its leading answer.
        positions: that went through the network of a reward.
        seconds: that it takes; None where it was not timed by itself.
        outside: the share of these that is not spent in the policy.
        first_steps: how many of its N solutions begin with different steps.
        solutions: how many of its N solutions are different.
    """

    method: str
    size: int
    right: dict[str, float]
    probability: dict[str, float]
    tokens: float
    reward: str | None = None
    is_larger: bool = False
    quantization: str = "none"
    calibration: float | None = None
    positions: float = 0.0
    seconds: float | None = None
    outside: float | None = None
    first_steps: float | None = None
    solutions: float | None = None

    @property
    def operations(self) -> float:
        """Multiplications and additions for each question, those of reading the prompt left out."""
        reward = 0.0 if self.reward is None else REWARDS[self.reward].weights
        policy = LARGE if self.is_larger else SMALL
        return 2 * (policy * self.tokens + reward * self.positions)


@dataclass(frozen=True, eq=False)
class Samples:
    """Independent solutions of questions.

    Attributes:
        solutions: those of each question; of one that could not be asked there are none.
        answers: of these, with one spelling for all that say the same.
        references: the right answer of each question.
        cut: the solutions that have steps, with their steps.
        scores: by name of `REWARDS`, the scores of all of these.
        num: how many there are of each question.
    """

    solutions: dict[str, list[dict[str, Any]]]
    answers: dict[str, list[str | None]]
    references: dict[str, str]
    cut: list[Labelled]
    num: int
    scores: dict[str, Scores] = field(default_factory=dict)


def read_samples(folder: Path, count: int) -> Samples | None:
    """Return the samples in a folder; None if they are not whole.

    Args:
        folder: the folder.
        count: the number of questions.
    """
    rows = read_rows(folder / "samples.jsonl")
    solutions, references = dict[str, list[dict[str, Any]]](), dict[str, str]()
    for row in rows:
        solutions.setdefault(row["id"], [])
        references[row["id"]] = row["answer"]
        if is_solution(row):
            solutions[row["id"]].append(row)
    numbers = {len(each) for each in solutions.values() if each}
    if len(solutions) != count or len(numbers) != 1:
        return None
    cut = joined(rows, read_rows(folder / "labels.jsonl"))
    have_text = sum(bool(row["text"].strip()) for each in solutions.values() for row in each)
    if len(cut) < have_text:
        cut = []
    keys = {each.key for each in cut}
    scores = dict[str, Scores]()
    for name in REWARDS:
        scored = read_rows(folder / f"scores-{name}.jsonl")
        if keys and keys.issubset(row["solution"] for row in scored):
            scores[name] = scores_in(scored)
    for each in solutions.values():
        each.sort(key=lambda row: row["sample"])
    answers = {name: told([row["found"] for row in each]) for name, each in solutions.items()}
    return Samples(solutions, answers, references, cut, numbers.pop(), scores)


def of_samples(samples: Samples, *, is_larger: bool = False) -> list[Outcome]:
    """Return what votes on the samples come to, with each reward that has scored them.

    Of the larger model there is the majority alone, for each N.
    """
    sizes = range(1, samples.num + 1) if is_larger else SIZES
    found = list[Outcome]()
    for size in (size for size in sizes if size <= samples.num):
        common: dict[str, Any] = {
            "tokens": size * _tokens_a_solution(samples),
            "is_larger": is_larger,
            **_distinct(samples, size),
        }
        found.append(_voted(samples, MAJORITY, size, _ones(samples), vote, **common))
        if is_larger or size == 1:
            continue
        covered = _covered(samples, size)
        found.append(Outcome(COVERAGE, size, covered, covered, **common))
        for name in samples.scores:
            log_scores = log_scores_of(samples, name)
            reads = {"reward": name, "positions": common["tokens"] * bool(REWARDS[name].weights)}
            weights = {
                key: torch.tensor(each).double().exp().tolist() for key, each in log_scores.items()
            }
            found.append(_voted(samples, BEST, size, log_scores, best, **common, **reads))
            found.append(_voted(samples, WEIGHTED, size, weights, vote, **common, **reads))
    return found


def _voted(
    samples: Samples,
    method: str,
    size: int,
    numbers: Mapping[str, Sequence[float]],
    rule: Callable[[Sequence[str | None], Sequence[float], str], Vote],
    **others: Any,
) -> Outcome:
    """Return the outcome of a rule on the answers and numbers of each group of `size`."""
    votes = dict[str, list[Vote]]()
    for name, answers in samples.answers.items():
        votes[name] = [
            rule(answers[group], numbers[name][group], samples.references[name])
            for group in groups(len(answers), size)
        ] or [Vote(0.0, 0.0, None)]
    right, probability = by_question(votes)
    error = calibration_error([each for group in votes.values() for each in group])
    return Outcome(method, size, right, probability, calibration=error, **others)


def _ones(samples: Samples) -> dict[str, list[float]]:
    return {name: [1.0] * len(each) for name, each in samples.solutions.items()}


def _covered(samples: Samples, size: int) -> dict[str, float]:
    return {
        name: pass_at_k(len(each), sum(row["correct"] for row in each), size) if each else 0.0
        for name, each in samples.solutions.items()
    }


def log_scores_of(samples: Samples, name: str) -> dict[str, list[float]]:
    """Return the log of the score of each solution, by question."""
    rule, scores = aggregation(REWARDS[name].aggregation), samples.scores[name]
    found = dict[str, list[float]]()
    for question, solutions in samples.solutions.items():
        found[question] = []
        for row in solutions:
            log_odds = torch.tensor([scores.get(f"{row['id']}/{row['sample']}", [-1e3])]).double()
            found[question].append(float(rule.log_score(log_odds, torch.ones_like(log_odds) > 0)))
    return found


def _tokens_a_solution(samples: Samples) -> float:
    return fmean(
        fmean(len(row["token_ids"]) for row in each) if each else 0.0
        for each in samples.solutions.values()
    )


def _distinct(samples: Samples, size: int) -> dict[str, float]:
    """Return how many of N solutions, and of their first steps, are different."""
    by_name = dict[str, list[tuple[str, ...]]]()
    for each in samples.cut:
        by_name.setdefault(each.sample["id"], []).append(tuple(each.labels["steps"]))
    parts = [each[group] for each in by_name.values() for group in groups(len(each), size)]
    return _variety(parts)


def _variety(parts: Sequence[Sequence[tuple[str, ...]]]) -> dict[str, float]:
    if not parts:
        return {}
    return {
        "first_steps": fmean(len({steps[:1] for steps in part}) for part in parts),
        "solutions": fmean(len(set(part)) for part in parts),
    }


def read_cells(folder: Path, count: int) -> dict[str, Outcome]:
    """Return the outcomes of the cells in a folder that are whole, by name.

    Args:
        folder: the folder of a world.
        count: the number of its questions.
    """
    found = dict[str, Outcome]()
    for name, cell in CELLS.items():
        outcome = of_evaluation(folder / name, cell, count)
        if outcome is not None:
            found[name] = outcome
    return found


def of_evaluation(folder: Path, cell: Cell, count: int) -> Outcome | None:
    """Return what an evaluation has come to; None if it is not whole.

    Raises:
        InputError: its files are broken.
    """
    path = folder / "results.jsonl"
    content = read_bytes(path) if path.exists() else b""
    results = parse_results(path, content[: content.rfind(b"\n") + 1])
    if len({result["id"] for result in results}) != count:
        return None
    kept: Mapping[str, Any] = read_solutions(folder) if (folder / FILE).exists() else {}
    votes, variety = dict[str, list[Vote]](), list[list[tuple[str, ...]]]()
    for result in results:
        solutions = kept.get(result["id"], {}).get("solutions", [])
        if len(solutions) < (result["num_particles"] or 1):
            said = result["probability"] if result["answer"] is not None else None
            told_of = Vote(float(result["correct"]), result["probability_correct"], said)
        else:
            answers, weights = zip(*((s["answer"], s["weight"]) for s in solutions), strict=True)
            told_of = vote(answers, weights, result["reference"])
            variety.append([tuple(s["steps"]) for s in solutions])
        votes[result["id"]] = [told_of]
    right, probability = by_question(votes)
    costs = [result["cost"] for result in results]
    seconds = sum(cost["seconds"] for cost in costs)
    inside = sum(cost["policy_seconds"] for cost in costs)
    return Outcome(
        METHODS[cell.algorithm],
        cell.particles,
        right,
        probability,
        fmean(cost["generated_tokens"] for cost in costs),
        cell.reward,
        cell.is_larger,
        cell.quantization,
        calibration_error([each for (each,) in votes.values()]),
        fmean(cost["reward_positions"] for cost in costs),
        fmean(result["seconds"] for result in results),
        1 - inside / seconds if seconds else None,
        **_variety(variety),
    )
