"""Rules that select one answer."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.results.posterior import Posterior
from llmsmc.solving.selection import select_answer, selected_answers
from llmsmc.solving.settings import SELECTIONS
from tests.solutions import answering, posterior


def scored(*rewards: float, answers: tuple[str | None, ...], weights: list[float]) -> Posterior:
    made = posterior(answering(*answers), weights)
    return with_log_odds(made, torch.tensor(rewards).double().logit()[:, None].repeat(1, 2))


def with_log_odds(made: Posterior, log_odds: Tensor) -> Posterior:
    return replace(made, particles=replace(made.particles, log_odds=log_odds))


def test_each_rule_has_its_own_answer() -> None:
    made = scored(0.5, 0.5, 0.9, 0.5, answers=("7", "7", "8", "9"), weights=[1.0, 1.0, 1.0, 4.0])
    assert select_answer(made, "mode") == "9"
    assert select_answer(made, "majority") == "7"
    assert select_answer(made, "argmax") == "8"


def test_the_dead_and_the_silent_have_no_say() -> None:
    made = scored(0.9, 0.8, 0.2, answers=("7", None, "9"), weights=[0.0, 3.0, 1.0])
    assert select_answer(made, "majority") == select_answer(made, "mode") == "9"
    assert select_answer(made, "argmax") is None
    dead = posterior(answering("7", "8"), [0, 0])
    assert selected_answers(dead) == dict.fromkeys(SELECTIONS)


def test_without_scores_the_weight_decides() -> None:
    made = posterior(answering("7", "8", "8"), [3, 1, 2])
    made = with_log_odds(made, torch.full((3, 2), torch.nan).double())
    assert select_answer(made, "argmax") == "7"


def test_aggregations_differ() -> None:
    made = posterior(answering("7", "8"), [1, 1])
    scores = torch.tensor([[0.9, 0.5], [0.5, 0.8]], dtype=torch.float64)
    made = with_log_odds(made, scores.logit())
    assert select_answer(made, "argmax", "product") == "7"
    assert select_answer(made, "argmax", "last") == "8"


def test_samples_follow_the_weights_and_the_seed() -> None:
    made = posterior(answering("7", "8"), [1, 3])
    drawn = Counter(select_answer(replace(made, seed=seed), "sample") for seed in range(100))
    assert abs(drawn["8"] - 75) < 4 * (100 * 0.75 * 0.25) ** 0.5
    assert len({select_answer(made, "sample") for _ in range(5)}) == 1


def test_an_unknown_rule() -> None:
    with pytest.raises(InputError, match="selection is one of a few words. Got 'best'"):
        select_answer(posterior(answering("7"), [1]), "best")
