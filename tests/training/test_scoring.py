"""Scores of the steps of solutions, in files."""

from pathlib import Path

import pytest

from llmsmc.models.rewards.arithmetic_reward import ArithmeticReward
from llmsmc.training.judging import auroc
from llmsmc.training.lines import Lines
from llmsmc.training.scoring import Labelled, judged_steps, score_missing, scores_in


@pytest.mark.parametrize("wrong", [0.0, 0.01])
def test_a_score_of_one_is_above_all_others(tmp_path: Path, wrong: float) -> None:
    """JSON has no infinite log-odds."""
    sample = {"id": "q", "sample": 0, "question": "What?", "split": "test", "correct": True}
    sample |= {"token_ids": [1, 2], "log_probs": [-1.0, -1.0], "finish_reason": "eos"}
    labels = {"steps": ["2 + 2 = 4.\n\n", "2 + 2 = 5."], "step_ends": [1, 2], "labels": [1.0, 0.0]}
    solutions = [Labelled(sample, labels)]
    lines = Lines(tmp_path / "scores.jsonl")
    assert list(score_missing(ArithmeticReward(wrong=wrong), solutions, lines, lambda _: (1,)))
    steps = judged_steps(solutions, scores_in(Lines(lines.path).rows))
    assert auroc(steps.log_odds, steps.labels) == 1.0
