"""A Python function as a reward: it is asked for the scores of the steps, and nothing is cached."""

import time
from collections.abc import Callable, Sequence

import torch

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError
from llmsmc.models.caches.rows import CacheHandle, CacheRows
from llmsmc.models.rewards.reward import (
    READINGS,
    Memoryless,
    Reading,
    Reward,
    Solution,
    Steps,
    checked_steps,
    scores_or_fault,
)
from llmsmc.registry import FORM, REWARDS

Scoring = Callable[[str, Sequence[str]], Sequence[float]]
"""From the question and the steps of a solution to a probability for each step."""


class RewardFunction(Memoryless):
    """The scores that a function gives; once for each different solution.

    Attributes:
        name: that of the function.
    """

    def __init__(self, function: Scoring, *, name: str = "") -> None:
        """Take a function of the question and the steps, which returns a score for each step.

        It is a function of what it is given: the same solution has the same scores.
        """
        if not callable(function):
            raise InputError(
                f"A reward is a model or a function. Got {function!r}; accepted: a RewardModel or "
                "a function of the question and the list of steps."
            )
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self._function = function

    def __repr__(self) -> str:
        """Show which function it is."""
        return f"RewardFunction({self.name!r})"

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of each step.

        Raises:
            InputError: a step is blank, or the function returns something else than one
                probability a step.
        """
        read = checked_steps(steps)
        if not read:
            return []
        scores = scores_or_fault(self._function(question, list(read)), read, 0.0, 1.0)
        if isinstance(scores, str):
            raise InputError(
                f"A score is the probability that a step is right. Got {scores} from the function "
                f"{self.name}; accepted: one number in [0, 1] for each step."
            )
        return scores

    def check(self, question: str) -> None:
        """Accept any question."""

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return that there is room: a function has no context."""
        return True

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheHandle, Cost]:
        """Return the log-odds of the new steps; see `llmsmc.models.rewards.reward.Reward`."""
        start = time.perf_counter()
        known: dict[Solution, list[float]] = {}
        for solution in solutions:
            if solution.new and solution not in known:
                read = READINGS[reading](solution.steps)
                num_new = min(len(solution.new), len(read))
                scores = torch.tensor(self.score(question, read)[-num_new:], dtype=torch.float64)
                known[solution] = scores.logit().tolist()
        cost = Cost(reward_seconds=time.perf_counter() - start)
        return (
            [list(known.get(solution, ())) for solution in solutions],
            CacheRows.none(len(solutions)),
            cost,
        )


def named_reward(name: str) -> Reward:
    """Return the reward function of that name (`llmsmc.registry.REWARDS`), as a reward.

    Raises:
        InputError: there is none of that name, or something else is there.
    """
    found = REWARDS.find(name)
    if isinstance(found, type) or not (callable(found) or isinstance(found, Reward)):
        raise InputError(
            "A reward function takes a question and the list of its steps. Got "
            f"{name!r}, which is {found!r}; accepted: such a function as {FORM}."
        )
    return found if isinstance(found, Reward) else RewardFunction(found, name=name)


def as_reward(reward: Reward | Scoring) -> Reward:
    """Return a function as a reward; a reward as it is."""
    return reward if isinstance(reward, Reward) else RewardFunction(reward)
