"""What a reward is to the reasoning model, whatever is behind it.

A network under one of the conventions, two language models, a judge that writes, several rewards
together or a Python function: each says of the steps of a solution how probable it is that they are
right, as log-odds, in which nothing saturates. What it remembers of a solution goes with it when
solutions are resampled, so that only new steps are computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

from llmsmc.cost import Cost
from llmsmc.errors import InputError
from llmsmc.models.caches.cache_rows import Memory

Steps = tuple[str, ...]

Reading = Literal["steps", "prefix"]
"""What a score is of: each step; or the whole solution so far, read as a single step."""

READINGS: Final[dict[str, Callable[[Steps], Steps]]] = {
    "steps": lambda steps: steps,
    "prefix": lambda steps: ("".join(steps),) if steps else (),
}
"""The steps that are read, from those of the solution."""


@dataclass(frozen=True)
class Solution:
    """The steps of one solution: those that are scored already, and those that are not.

    No step is blank. With nothing new, nothing is computed.
    """

    scored: Steps
    new: Steps

    @property
    def steps(self) -> Steps:
        """All of them."""
        return self.scored + self.new


@runtime_checkable
class Reward(Protocol):
    """Scores the steps of solutions."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of each step, read plainly, with nothing remembered."""
        ...

    def check(self, question: str) -> None:
        """Raise `InputError` if no solution of the question can be scored."""
        ...

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether there is room to score these steps."""
        ...

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        memory: Memory,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], Memory, Cost]:
        """Return the log-odds of what is new in B solutions.

        Args:
            question: what they answer.
            solutions: the steps, scored and new.
            memory: what is remembered of the scored steps; what is missing is computed again.
            reading: "steps" gives one score for each new step; "prefix" gives one for the
                whole solution, if there is something new.

        Returns:
            The log-odds of each solution, what to remember for the next call, and the cost.
        """
        ...

    def rewind(
        self,
        question: str,
        memory: Memory,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> Memory:
        """Return what is remembered of the steps `after`, the first ones of those `before`."""
        ...


class Memoryless:
    """A reward for which nothing is cached with the solutions, so that nothing is rewound."""

    def rewind(
        self,
        question: str,
        memory: Memory,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> Memory:
        """Return the memory, in which there is nothing."""
        return memory


def cost_of_reading(cost: Cost, scored_tokens: int = 0) -> Cost:
    """Return what a language model has cost as what a reward made of it has."""
    return Cost(
        scored_tokens=scored_tokens,
        reward_positions=cost.policy_positions,
        model_calls=cost.model_calls,
    )


def checked_steps(steps: Sequence[str]) -> Steps:
    """Return the steps as they can be scored.

    Raises:
        InputError: they are no list of texts, or one of them is blank.
    """
    if isinstance(steps, str) or not all(isinstance(step, str) for step in steps):
        raise InputError(f"steps is a list of texts. Got {steps!r}; accepted: a list of strings.")
    for index, step in enumerate(steps):
        if not step.strip():
            raise InputError(f"A blank step has no score. Got {step!r} as step {index}.")
    return tuple(steps)
