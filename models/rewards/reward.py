"""What a reward is to the reasoning model, whatever is behind it.

A network under one of the conventions, two language models, a judge that writes, several rewards
together or a Python function: each says of the steps of a solution how probable it is that they are
right, as log-odds, in which nothing saturates. What it remembers of a solution goes with it when
solutions are resampled, so that only new steps are computed.
"""

import itertools
import math
import reprlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Float64, Int64
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.core.counted import counted
from llmsmc.errors import InputError, ServerError
from llmsmc.models.caches.rows import CacheHandle

Steps = tuple[str, ...]

Reading = Literal["steps", "prefix"]
"""Whether a score is of each step, or of the whole solution so far, read as a single step."""

READINGS: Final[dict[str, Callable[[Steps], Steps]]] = {
    "steps": lambda steps: steps,
    "prefix": lambda steps: ("".join(steps),) if steps else (),
}
"""From the steps of a solution to the steps that are read."""


@dataclass(frozen=True, eq=False)
class Written:
    """What a policy has recorded of a solution while it wrote it.

    Attributes:
        prompt_ids: the tokens of the prompt.
        token_ids: the tokens of the solution.
        log_probs: of these tokens under the policy, at temperature 1.
        bounds: the number of tokens before the first step that is read, and up to the end of each
            of the K steps.
        features: what the readout of the reward has read at each token; NaN where nothing has been
            read, None where there is none.
        is_ended: whether the solution ends with the last of these steps, by itself: the policy has
            ended the text, or the step gives the answer.
    """

    prompt_ids: tuple[int, ...]
    token_ids: Int64[Tensor, " L"]
    log_probs: Float64[Tensor, " L"]
    bounds: tuple[int, ...]
    features: Float[Tensor, "L F"] | None = None
    is_ended: bool = False


@dataclass(frozen=True)
class Solution:
    """The steps of one solution: those that are scored already, and those that are not.

    No step is blank. With nothing new, nothing is computed.

    Attributes:
        scored: the steps that have a score.
        new: the steps behind them.
        written: what the policy has recorded of all of these steps, for rewards that read it; two
            solutions of the same steps are equal whatever was recorded.
    """

    scored: Steps
    new: Steps
    written: Written | None = field(default=None, compare=False, repr=False)

    @property
    def steps(self) -> Steps:
        """All of them."""
        return self.scored + self.new


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """Solutions of a question, of which the new steps are to be scored.

    Attributes:
        question: the question that the solutions answer.
        solutions: their steps, scored and new.
        handle: the cache of the scored steps; missing steps are computed again.
        reading: whether a score is of one step or of the whole solution so far.
    """

    question: str
    solutions: Sequence[Solution]
    handle: CacheHandle
    reading: Reading = "steps"


@runtime_checkable
class Reward(Protocol):
    """Scores the steps of solutions.

    A reward of which no score is ever exactly zero may say so by an attribute `never_zero = True`;
    some moves then ask for less (see `Reasoning.survives`). One that reads what the policy has
    recorded says `reads_written = True`, and finds it in the solutions; with an attribute `readout`
    it says what is to be read of the policy's network at each token.
    """

    @property
    def name(self) -> str:
        """The name of the reward."""
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
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[Sequence[list[float] | ServerError], CacheHandle, Cost]:
        """Return the log-odds of the new steps of B solutions.

        Args:
            question: what they answer.
            solutions: the steps, scored and new.
            handle: the cache of the scored steps; missing steps are computed again.
            reading: "steps" gives one score for each new step; "prefix" gives one for the
                whole solution, if there is something new.

        Returns:
            The log-odds of each solution, or why a server has given it none; what to remember for
            the next call; and the cost.
        """
        ...

    def rewind(
        self,
        question: str,
        handle: CacheHandle,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> CacheHandle:
        """Return the cache of the steps `after`, which are the first of the steps `before`."""
        ...


@runtime_checkable
class MeasuredReward(Reward, Protocol):
    """A reward that has room for a number of tokens, of which each step takes some."""

    def room_behind(
        self,
        question: str,
        steps: Steps,
        reading: Reading = "steps",
        known: tuple[Steps, int] | None = None,
    ) -> int:
        """Return for how many tokens there is room behind the steps; below zero if none fits.

        Args:
            question: the question that the steps answer.
            steps: the steps of a solution.
            reading: whether a score is of one step or of the whole solution so far.
            known: some first steps, and the room behind them, as this method has returned it.
        """
        ...


class Memoryless:
    """A reward for which nothing is cached with the solutions, so that nothing is rewound."""

    def rewind(
        self,
        question: str,
        handle: CacheHandle,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> CacheHandle:
        """Return the handle, under which nothing is cached."""
        return handle


def scores_or_fault(
    said: object, steps: Sequence[str], low: float, high: float
) -> list[float] | str:
    """Return an answer about steps as one number for each, or a description of its fault.

    Args:
        said: the answer, which should be as many numbers as there are steps.
        steps: their texts.
        low: the smallest number.
        high: the largest; both may be infinite, and NaN is never a score.
    """
    # The keys of a dict are numbers at times, so are bytes, and a set has no order.
    if isinstance(said, str | bytes | bytearray | Mapping | set | frozenset):
        return reprlib.repr(said)
    try:
        each = iter(said)  # type: ignore[call-overload]
    except TypeError:  # a number, of whatever library
        return reprlib.repr(said)
    values = list(itertools.islice(each, len(steps) + 1))
    scores = list[float]()
    for number, (value, step) in enumerate(zip(values, steps, strict=False), start=1):
        try:
            real = hasattr(value, "__float__") and not isinstance(value, complex)
            score = float(value) if real else math.nan
        except (ValueError, TypeError, RuntimeError, OverflowError):
            score = math.nan
        if not low <= score <= high:
            return f"{reprlib.repr(value)} for step {number} of {len(steps)}, {shown(step)!r}"
        scores.append(score)
    if len(values) != len(steps):
        more = "more than " if len(values) > len(steps) else ""
        scored = counted(min(len(values), len(steps)), "score")
        return f"{more}{scored} for {counted(len(steps), 'step')}"
    return scores


def shown(step: str, width: int = 40) -> str:
    """Return a step as it is named in an error."""
    return textwrap.shorten(step, width, placeholder=" ...") or step[:width]


def scores_and_failures(
    name: str,
    solutions: Sequence[Solution],
    said: Sequence[object],
    reading: Reading,
) -> tuple[list[list[float]], list[bool]]:
    """Return the log-odds that a reward has given to solutions, and which of them failed.

    Where a server has given none, the log-odds are minus infinity: a score of zero.

    Args:
        name: of the reward.
        solutions: the solutions that it was asked about.
        said: its answers.
        reading: whether a score is of one step or of the whole solution so far.

    Raises:
        InputError: an answer is not one number for each new step.
    """
    if len(said) != len(solutions):
        raise InputError(
            f"A reward answers for each solution. Got {counted(len(said), 'answer')} of {name} for "
            f"{counted(len(solutions), 'solution')}; accepted: as many of both."
        )
    scores, failed = list[list[float]](), list[bool]()
    for solution, values in zip(solutions, said, strict=True):
        count = len(READINGS[reading](solution.new))
        failed.append(isinstance(values, ServerError))
        if isinstance(values, ServerError):
            scores.append([-math.inf] * count)
            continue
        read = READINGS[reading](solution.steps)
        found = scores_or_fault(values, read[len(read) - count :], -math.inf, math.inf)
        if isinstance(found, str):
            raise InputError(
                f"A reward gives log-odds to each step that it is asked about. Got {found} from "
                f"{name}; accepted: one number for each step, which is not NaN."
            )
        scores.append(found)
    return scores, failed


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
