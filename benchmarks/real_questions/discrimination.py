"""How well rewards tell solutions that end right from those that end wrong, on the samples.

The score of the last step, and the score of the whole solution that all steps make, are held
against the correctness of the final answer; the scores of earlier steps likewise. Within a question
is what best of N lives on: a reward that only knows which questions are hard ranks solutions across
questions, and not those of any question. Intervals resample questions.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from benchmarks.real_questions.outcomes import Samples, log_scores_of
from llmsmc.ablations.intervals import bootstrap_interval
from llmsmc.training.judging import Judged, auroc, interval
from llmsmc.training.scoring import judged_steps

BASELINES: Final = ("own-log-prob", "judge")
_POSITIONS: Final = ("1", "2", "3", "4", "5 and later")


def of_rewards(samples: Samples) -> list[dict[str, Any]]:
    """Return the figures of each reward that has scored the samples."""
    return [{"reward": name} | figures(*_scored(samples, name)) for name in samples.scores]


def _scored(samples: Samples, name: str) -> tuple[Judged, Judged]:
    """Return all steps with their scores, and the last steps with the score of the solution."""
    scores, log_scores = samples.scores[name], log_scores_of(samples, name)
    scored = [each for each in samples.cut if each.key in scores]
    steps = judged_steps(scored, scores)
    of_solution = {
        f"{row['id']}/{row['sample']}": score
        for question, rows in samples.solutions.items()
        for row, score in zip(rows, log_scores[question], strict=True)
    }
    whole = np.array([of_solution[each.key] for each in scored])
    return steps, replace(of_last(steps), log_odds=whole)


def figures(steps: Judged, solutions: Judged) -> dict[str, Any]:
    """Return the figures of scored steps, and of solutions with the scores that they make."""
    last = of_last(steps)
    within = within_questions(solutions)
    low, high = bootstrap_interval(np.array(within)) if len(within) > 1 else (None, None)
    positions = np.minimum(steps.positions, len(_POSITIONS))
    groups = [(name, positions == n) for n, name in enumerate(_POSITIONS, start=1)]
    return {
        "solutions": len(last),
        "questions": len(np.unique(last.questions)),
        "right": float(last.labels.mean()),
        "auroc": auroc(last.log_odds, last.labels),
        "interval": interval(last, _auroc),
        "whole": auroc(solutions.log_odds, solutions.labels),
        "whole_interval": interval(solutions, _auroc),
        "questions_of_both": len(within),
        "within": float(np.mean(within)) if within else None,
        "within_interval": None if low is None else (low, high),
        "by_position": [_of_position(name, _of_answers(steps[rows])) for name, rows in groups],
    }


def of_last(steps: Judged) -> Judged:
    """Return the last step of each solution, labelled by the correctness of its answer."""
    return _of_answers(steps[steps.is_last])


def _of_answers(steps: Judged) -> Judged:
    return replace(steps, labels=steps.correct.astype(float))


def _of_position(name: str, steps: Judged) -> dict[str, Any]:
    value = auroc(steps.log_odds, steps.labels)
    limits = None if value is None else interval(steps, _auroc)
    return {"position": name, "steps": len(steps), "auroc": value, "interval": limits}


def _auroc(steps: Judged) -> float | None:
    return auroc(steps.log_odds, steps.labels)


def within_questions(last: Judged) -> list[float]:
    """Return the AUROC of each question that has solutions of both kinds."""
    parts = (last[last.questions == name] for name in np.unique(last.questions))
    return [value for part in parts if (value := _auroc(part)) is not None]


def differences(samples: Samples) -> list[dict[str, Any]]:
    """Return how far the AUROC of the last step of rewards is above those of baselines."""
    return [
        {"left": left, "right": right} | _difference(samples, left, right)
        for right in BASELINES
        for left in samples.scores
        if right in samples.scores and left not in BASELINES
    ]


def _difference(samples: Samples, left: str, right: str) -> dict[str, Any]:
    both = samples.scores[left].keys() & samples.scores[right].keys()
    kept = [each for each in samples.cut if each.key in both]
    one, other = (of_last(judged_steps(kept, samples.scores[name])) for name in (left, right))
    places = replace(one, log_odds=np.arange(len(one), dtype=float))  # of rows that are resampled

    def difference(steps: Judged) -> float | None:
        rows = steps.log_odds.astype(int)
        mine, theirs = (auroc(each.log_odds[rows], steps.labels) for each in (one, other))
        return None if mine is None or theirs is None else mine - theirs

    return {"difference": difference(places), "interval": interval(places, difference)}


def at_goal(rewards: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the trained reward with the highest AUROC of the last step; None without any."""
    trained = [each for each in rewards if each["reward"] in ("probe", "adapter")]
    return max(trained, key=lambda each: each["auroc"] or 0.0, default=None)
