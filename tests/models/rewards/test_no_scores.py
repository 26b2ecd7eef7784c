"""Scores that are none: the particle fails, or the run does and says over what."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from llmsmc import DegenerateWeightsError
from llmsmc.core.cost import Cost
from llmsmc.errors import InputError, ServerError
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning, RewardEnsemble
from llmsmc.models.caches.rows import CacheHandle, CacheRows
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.models.rewards.reward import Memoryless, Reading, Solution, Steps
from llmsmc.models.rewards.reward_function import RewardFunction
from llmsmc.registry import AGGREGATIONS

QUESTION = "What is 3 + 4?"
STEPS = ["First, 3 + 4 = 7.", "Then 7 - 5 = 2."]

Said = Callable[[int], Any]
"""From the number of a solution to what is said of its one new step."""


class Own(Memoryless):
    """A reward as users write them, which answers what it is told to."""

    name = "own"

    def __init__(self, said: Said, more: int = 0) -> None:
        self.said, self.more = said, more

    def score(self, question: str, steps: Sequence[str]) -> Any:
        return self.said(0)

    def check(self, question: str) -> None:
        pass

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        return True

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[Any, CacheHandle, Cost]:
        said = [self.said(n) if each.new else [] for n, each in enumerate(solutions)]
        return said + [[]] * self.more, CacheRows.none(len(solutions)), Cost()


def model_with(policy: LanguageModel, reward: Any, aggregation: str = "product") -> Reasoning:
    return Reasoning(
        policy, reward, QUESTION, aggregation, step=4, max_steps=1, stop_at_answer=False
    )


NO_SCORES: dict[str, Any] = {
    "nothing": None,
    "a number": 0.5,
    "a text": "0.5",
    "texts": ["0.5", "0.5"],
    "none": [],
    "one": [0.5],
    "three": [0.5, 0.5, 0.5],
    "without end": itertools.repeat(0.5),
    "NaN": [0.5, math.nan],
    "NaN first": [math.nan, 0.5],
    "NaN of numpy": np.array([0.5, math.nan]),
    "infinite": [0.5, math.inf],
    "above one": [0.5, 1.0000001],
    "below zero": [-0.1, 0.5],
    "percent": [50, 75],
    "None": [0.5, None],
    "a dict": {"score": 0.5, "other": 0.5},
    "complex": [0.5j, 0.5],
    "lists": [[0.5], [0.5]],
    "rows": torch.full((2, 2), 0.5),
    "a tensor of no dimension": torch.tensor(0.5),
    "an array of no dimension": np.array(0.5),
    "a dict from steps": {0: 0.5, 1: 0.5},
    "bytes": b"\0\1",
    "no order": {0.5, 0.25},
    "complex of numpy": np.array([0.5 + 0j, 0.5]),
}


@pytest.mark.parametrize("name", NO_SCORES)
def test_functions_that_return_no_scores(name: str) -> None:
    wrong = RewardFunction(lambda question, steps: NO_SCORES[name], name="mine")
    with pytest.raises(InputError, match=r"(?s)Got .* from the function mine; .*\[0, 1\]"):
        wrong.score(QUESTION, STEPS)
    with pytest.raises(InputError, match="from the function mine"):
        wrong.score_steps(QUESTION, [Solution((), (STEPS[0],) * 2)], CacheRows.none(1))


def test_the_step_is_named() -> None:
    wrong = RewardFunction(lambda question, steps: [0.5, math.nan], name="mine")
    with pytest.raises(InputError, match="Got nan for step 2 of 2, 'Then 7 - 5 = 2.' from"):
        wrong.score(QUESTION, STEPS)
    with pytest.raises((InputError, TypeError)):
        RewardFunction("reward")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "said",
    [
        (0.25, 1),
        [False, True],
        np.array([0.25, 1.0], dtype=np.float32),
        torch.tensor([0.25, 1.0]),
        [torch.tensor(0.25), Fraction(1, 4)],
        (score for score in (0.25, 1.0)),
        {"a": 0.25, "b": 1.0}.values(),
    ],
)
def test_numbers_of_any_kind_are_scores(said: Any) -> None:
    assert all(
        0 <= x <= 1 for x in RewardFunction(lambda question, steps: said).score(QUESTION, STEPS)
    )


@pytest.fixture(scope="module")
def drawn(policy: LanguageModel) -> ReasoningParticles:
    model = model_with(policy, Own(lambda n: [0.0]))
    return model.sample_initial(2, generator=torch.Generator().manual_seed(0))


FAULTS: dict[str, Said] = {
    "NaN": lambda n: [math.nan],
    "one NaN": lambda n: [math.nan if n == 1 else 0.0],
    "too few": lambda n: [],
    "too many": lambda n: [0.0, 0.0],
    "None": lambda n: None,
    "None inside": lambda n: [None],
    "a text": lambda n: ["0.3"],
    "a number": lambda n: 0.3,
    "NaN of torch": lambda n: torch.tensor([math.nan]),
    "a list": lambda n: [[0.3]],
}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_ends_over_what_is_no_score(
    fault: str, aggregation: str, policy: LanguageModel, drawn: ReasoningParticles
) -> None:
    model = model_with(policy, Own(FAULTS[fault]), aggregation)
    state = replace(drawn)  # what has been drawn is the same for all
    with pytest.raises(InputError, match="Got .* from own; accepted: one number for each step"):
        model.log_likelihood(0, None, state, None)
    with pytest.raises(InputError, match="from own"):
        model.path_log_likelihood(0, state, None)
    assert not bool(state.num_scored.any())  # so that it is not taken for scored later


@pytest.mark.parametrize("fault", FAULTS)
def test_a_filter_ends_over_what_is_no_score(fault: str, policy: LanguageModel) -> None:
    with pytest.raises(InputError, match="from own"):
        BootstrapFilter(2).run(model_with(policy, Own(FAULTS[fault])), seed=0)


def test_a_reward_that_forgets_solutions(policy: LanguageModel) -> None:
    with pytest.raises(InputError, match="Got 3 answers of own for 2 solutions"):
        BootstrapFilter(2).run(model_with(policy, Own(lambda n: [0.0], more=1)), seed=0)


FAILURE = ServerError("The server says nothing.", is_down=False)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_solution_without_a_score_of_a_server_fails(
    aggregation: str, wrapped: bool, policy: LanguageModel
) -> None:
    """Three solutions of score 0.8 and one of none: the evidence is three quarters of theirs."""
    odds = math.log(4.0)
    own: Any = Own(lambda n: FAILURE if n == 2 else [odds])
    certain: Any = Own(lambda n: [math.inf if n == 2 else odds])
    reward = RewardEnsemble([certain, own], "geometric") if wrapped else own
    posterior = BootstrapFilter(4).run(model_with(policy, reward, aggregation), seed=0)
    alone = {"odds": 4.0, "exp": math.exp(0.8)}.get(aggregation, 0.8)
    assert math.exp(posterior.log_evidence) == pytest.approx(0.75 * alone)
    assert [n for n in range(4) if posterior.log_weights[n] == -math.inf] == [2]
    assert [p.finish_reason == "failed" for p in posterior.particles] == [False, False, True, False]
    # As a score that is taken for certain it would count, and for most aggregations in full.
    taken = BootstrapFilter(4).run(
        model_with(policy, Own(lambda n: [9.0 if n == 2 else odds]), aggregation), seed=0
    )
    assert taken.log_evidence > posterior.log_evidence + 0.2


def test_no_solution_with_a_score(policy: LanguageModel) -> None:
    with pytest.raises(DegenerateWeightsError):
        BootstrapFilter(2).run(model_with(policy, Own(lambda n: FAILURE)), seed=0)


@pytest.mark.parametrize("said", [None, [0.5], [0.5, math.nan], [0.5] * 3, ["a", "b"]])
def test_members_of_ensembles(said: Any) -> None:
    ensemble = RewardEnsemble(
        [RewardFunction(lambda question, steps: [0.5] * 2), Own(lambda n: said)]
    )
    with pytest.raises(InputError, match="Got .* from own"):
        ensemble.score(QUESTION, STEPS)
    with pytest.raises(InputError, match="from own"):
        ensemble.score_steps(QUESTION, [Solution((), (STEPS[0],) * 2)], CacheRows.none(1))


@pytest.mark.parametrize(
    "combined", [[0.5, 0.5], 0.5, None, torch.tensor([0.5]), torch.tensor([0.5, math.nan])]
)
def test_combinations_that_are_no_scores(combined: Any) -> None:
    ensemble = RewardEnsemble([lambda question, steps: [0.5] * 2], lambda log_odds: combined)
    with pytest.raises(InputError, match="An ensemble has one score for each step. Got .* 2 steps"):
        ensemble.score(QUESTION, STEPS)
