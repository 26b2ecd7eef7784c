"""Scores of the steps of labelled solutions: of a reward, of the policy itself, of the place alone.

A score is a number by which steps are ordered; those of rewards are log-odds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmsmc.errors import LlmsmcError
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.rewards.probe import LabelledSolution, Probe, judged
from llmsmc.models.rewards.reward import Reward, Solution, Written
from llmsmc.training.judging import Judged, first_errors
from llmsmc.training.labels import name_of
from llmsmc.training.lines import Lines, Row
from llmsmc.training.samples import given_in, is_solution

Scores = Mapping[str, Sequence[float]]
"""From the name of a solution to the scores of its steps."""

_SOLUTIONS_A_CALL = 8  # of one question
_FAR = 1e3  # the log-odds of a score of zero or one, which JSON cannot write


@dataclass(frozen=True, eq=False)
class Labelled:
    """A solution with its labels: a row of the samples and a row of the labels.

    Attributes:
        sample: the row of the samples.
        labels: the row of the labels.
    """

    sample: Row
    labels: Row

    @property
    def key(self) -> str:
        """The name of the solution."""
        return name_of(self.sample)

    @property
    def split(self) -> str:
        """The split of its question."""
        split: str = self.sample["split"]
        return split


def joined(samples: Sequence[Row], labels: Sequence[Row]) -> list[Labelled]:
    """Return the solutions that have steps, each with its labels."""
    by_name = {name_of(row): row for row in labels}
    return [
        Labelled(row, by_name[name_of(row)])
        for row in samples
        if is_solution(row) and name_of(row) in by_name and by_name[name_of(row)]["steps"]
    ]


def score_missing(
    reward: Reward,
    solutions: Sequence[Labelled],
    lines: Lines,
    prompt_ids: Callable[[str], tuple[int, ...]],
) -> Iterator[list[Row]]:
    """Score the steps of each solution that has no scores yet; yield the rows once written.

    A solution that the reward has no room for has none.

    Args:
        reward: the reward.
        solutions: the solutions.
        lines: the file of their scores.
        prompt_ids: from a question to the tokens of the prompt under which it was solved.

    Raises:
        InputError: a file cannot be written.
        ServerError: the server of the reward is down; what was scored is kept.
    """
    done = {row["solution"] for row in lines.rows}
    missing = [each for each in solutions if each.key not in done]
    by_question = dict[str, list[Labelled]]()
    for each in missing:
        by_question.setdefault(each.sample["question"], []).append(each)
    for question, group in by_question.items():
        for start in range(0, len(group), _SOLUTIONS_A_CALL):
            some = group[start : start + _SOLUTIONS_A_CALL]
            asked = [_asked(each, prompt_ids(question)) for each in some]
            fits = [reward.fits(question, each.steps) for each in asked]
            found, _, _ = reward.score_steps(
                question,
                [each for each, fitting in zip(asked, fits, strict=True) if fitting],
                CacheRows.none(sum(fits)),
            )
            scores = iter(found)
            rows = [
                scored(each.key, next(scores) if fitting else None)
                for each, fitting in zip(some, fits, strict=True)
            ]
            lines.append(rows)
            yield rows


def _asked(each: Labelled, prompt_ids: tuple[int, ...]) -> Solution:
    """Return a solution with what the policy recorded of it while it wrote."""
    ends = tuple(each.labels["step_ends"])
    written = Written(
        prompt_ids,
        torch.tensor(each.sample["token_ids"]).long(),
        torch.tensor(each.sample["log_probs"], dtype=torch.float64),
        (0, *ends),
        is_ended=is_ended(each),
    )
    return Solution((), tuple(each.labels["steps"]), written)


def judge_missing(
    probe: Probe,
    solutions: Sequence[Labelled],
    lines: Lines,
    prompt_ids: Callable[[str], tuple[int, ...]],
    features: Path,
    tell: Callable[[int], None],
) -> None:
    """Score the steps of solutions by what was recorded of them; what was not is read and kept.

    Args:
        probe: the reward.
        solutions: the solutions, of each question all or none.
        lines: the file of their scores.
        prompt_ids: from a question to the tokens of the prompt under which it was solved.
        features: the folder of what was recorded.
        tell: called with the number of solutions that are done.
    """
    done = {row["solution"] for row in lines.rows}
    if all(each.key in done for each in solutions):
        return
    log_odds = judged(
        probe,
        [labelled_solution(each, prompt_ids) for each in solutions],
        features,
        progress=lambda stage, count, total: tell(max(count, len(done))),
    )
    rows = [scored(each.key, x) for each, x in zip(solutions, log_odds, strict=True)]
    lines.append([row for row in rows if row["solution"] not in done])


def labelled_solution(
    each: Labelled, prompt_ids: Callable[[str], tuple[int, ...]]
) -> LabelledSolution:
    """Return a solution as a probe is told of it."""
    question = each.sample["question"]
    return LabelledSolution(
        question=question,
        prompt_ids=prompt_ids(question),
        token_ids=tuple(each.sample["token_ids"]),
        step_ends=tuple(each.labels["step_ends"]),
        labels=learnt_labels(each),
        split=each.split,
        key=each.key,
        is_ended=is_ended(each),
        given=given_in(each.sample),
    )


def is_ended(each: Labelled) -> bool:
    """Return whether a solution has ended by itself, and was not cut off."""
    return each.sample["finish_reason"] in ("eos", "answer")


def learnt_labels(each: Labelled) -> tuple[float, ...]:
    """Return the labels that are learnt, NaN for none.

    A checker says of steps behind the first error that something before them is wrong, which says
    nothing of the steps: only those up to the first error are learnt.
    """
    labels = each.labels["labels"]
    used = first_errors(labels) if each.labels["labeller"] == "checker" else [True] * len(labels)
    return tuple(
        float("nan") if label is None or not is_used else float(label)
        for label, is_used in zip(labels, used, strict=True)
    )


def scored(key: str, scores: Any) -> Row:
    """Return the row of the scores of a solution, or of the error in their place."""
    if isinstance(scores, LlmsmcError):
        return {"solution": key, "log_odds": None, "error": str(scores)}
    return {"solution": key, "log_odds": [min(max(x, -_FAR), _FAR) for x in scores]}


def scores_in(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return the scores in the rows of a file."""
    return {row["solution"]: row["log_odds"] for row in rows if row["log_odds"] is not None}


def own_log_probs(solutions: Sequence[Labelled]) -> dict[str, list[float]]:
    """Return the mean log-probability of the tokens of each step under the policy itself."""
    found = {}
    for each in solutions:
        log_probs, ends = each.sample["log_probs"], [0, *each.labels["step_ends"]]
        found[each.key] = [float(np.mean(log_probs[a:b])) for a, b in pairwise(ends)]
    return found


def by_position(train: Sequence[Labelled], solutions: Sequence[Labelled]) -> dict[str, list[float]]:
    """Return the log-odds of a right step, given its position and whether it ends the solution."""
    counts = dict[tuple[int, bool], list[float]]()
    for each in train:
        labels = each.labels["labels"]
        for n, label in enumerate(labels):
            if label is not None:
                is_last = n == len(labels) - 1 and is_ended(each)
                tally = counts.setdefault((n, is_last), [1.0, 1.0])
                tally[0] += label
                tally[1] += 1 - label
    odds = {place: float(np.log(right / wrong)) for place, (right, wrong) in counts.items()}
    return {
        each.key: [
            odds.get((n, n == len(each.labels["labels"]) - 1 and is_ended(each)), 0.0)
            for n in range(len(each.labels["labels"]))
        ]
        for each in solutions
    }


def judged_steps(solutions: Sequence[Labelled], scores: Scores) -> Judged:
    """Return the labelled steps of the solutions that have scores."""
    columns = list[tuple[float, float, str, int, int, bool, bool, bool]]()
    for each in solutions:
        labels, ends = each.labels["labels"], [0, *each.labels["step_ends"]]
        if each.key not in scores:
            continue
        parts = zip(scores[each.key], labels, pairwise(ends), first_errors(labels), strict=True)
        for n, (score, label, (start, end), until) in enumerate(parts):
            if label is not None:
                columns.append(
                    (
                        score,
                        label,
                        each.sample["id"],
                        n + 1,
                        end - start,
                        until,
                        n == len(labels) - 1,
                        bool(each.sample["correct"]),
                    )
                )
    kinds = (float, float, str, int, int, bool, bool, bool)
    by_column = list(zip(*columns, strict=True)) or [()] * len(kinds)
    arrays: list[Any] = [
        np.array(part, dtype=kind) for part, kind in zip(by_column, kinds, strict=True)
    ]
    _, arrays[2] = np.unique(arrays[2], return_inverse=True)  # ids by number
    return Judged(*arrays)
