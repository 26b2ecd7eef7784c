"""The right answer as a reward."""

import pytest

from llmsmc.errors import InputError
from llmsmc.models.rewards.answer_reward import AnswerReward

STEPS = ["Add them.\n\n", r"It is \boxed{1/2}.", r" No: \boxed{0.75}."]


def test_scores_of_the_solution_so_far() -> None:
    reward = AnswerReward({"half": "0.5", "more": "3/4"})
    assert reward.score("half", STEPS) == [0.5, 1.0, 1e-6]
    assert reward.score("more", STEPS) == [0.5, 1e-6, 1.0]
    assert reward.never_zero and not AnswerReward({}, wrong=0).never_zero


def test_another_question() -> None:
    with pytest.raises(InputError, match="a question of the data set"):
        AnswerReward({"half": "0.5"}).check("other")
