"""The embedded models, the questions of a level, and runs that share a batch."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from llmsmc import run_together
from llmsmc.models import LanguageModel, RewardModel
from llmsmc.models.minimath.datasets import load

T = TypeVar("T")


def embedded_models() -> tuple[LanguageModel, RewardModel]:
    """Return the policy and the reward model."""
    policy = LanguageModel.from_pretrained("minimath-policy")
    return policy, RewardModel.from_pretrained("minimath-reward")


def questions_of(level: int, limit: int) -> list[str]:
    """Return the first questions of a level of `minimath-500`."""
    return [each.question for each in load("minimath-500") if each.level == level][:limit]


def outcomes(tasks: Sequence[Callable[[], T]], in_flight: int) -> list[T]:
    """Return the results of the tasks, in order; raise the error of a task that fails."""
    found = dict[int, T]()
    for number, outcome in run_together(tasks, in_flight):
        if isinstance(outcome, Exception):
            raise outcome
        found[number] = outcome
    return [found[number] for number in range(len(tasks))]
