r"""Several rewards as one.

With log-odds $l_1, \dots, l_M$ of a step under the M members, the ensemble says

| name | score | what it is |
| --- | --- | --- |
| mean | the mean of the $\sigma(l_m)$ | a mixture: one of them is right, each as likely |
| geometric | $\sigma$ of the mean of the $l_m$ | a product of experts, normalised |
| min | the smallest $\sigma(l_m)$ | as good as the most sceptical of them says |

Shapes: M members, K steps.
"""

import reprlib
from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import logsigmoid

from llmsmc.core.checks import require_choice
from llmsmc.core.cost import Cost
from llmsmc.errors import InputError, ServerError
from llmsmc.models.caches.rows import CacheHandle, JointHandle
from llmsmc.models.policies.decoding.requests import Readout
from llmsmc.models.rewards.reward import (
    Reading,
    Reward,
    Solution,
    Steps,
    scores_and_failures,
    scores_or_fault,
)
from llmsmc.models.rewards.reward_function import Scoring, as_reward

Combination = Callable[[Tensor], Tensor]
"""From the log-odds of the members, [M, K], to those of the ensemble, [K]."""


def log_odds_of_mean(log_odds: Float64[Tensor, "M K"]) -> Float64[Tensor, " K"]:
    """Return the log-odds of the mean of the probabilities, which do not saturate."""
    return logsigmoid(log_odds).logsumexp(0) - logsigmoid(-log_odds).logsumexp(0)


def mean_log_odds(log_odds: Float64[Tensor, "M K"]) -> Float64[Tensor, " K"]:
    """Return the mean of the log-odds."""
    return log_odds.mean(0)


def smallest_log_odds(log_odds: Float64[Tensor, "M K"]) -> Float64[Tensor, " K"]:
    """Return the smallest log-odds."""
    return log_odds.amin(0)


COMBINATIONS: Final[dict[str, Combination]] = {
    "mean": log_odds_of_mean,
    "geometric": mean_log_odds,
    "min": smallest_log_odds,
}


def _readouts(members: Sequence[object]) -> list[Readout]:
    """Return what the members read of the network of the policy."""
    found = [getattr(member, "readout", None) for member in members]
    return [readout for readout in found if readout is not None]


class RewardEnsemble:
    """The scores of several rewards, made one for each step.

    Attributes:
        members: the rewards.
        name: their names.
    """

    def __init__(
        self,
        members: Sequence[Reward | Scoring],
        combine: str | Combination = "mean",
        *,
        name: str = "",
    ) -> None:
        """Take the members; functions of the question and the steps are members too.

        Raises:
            InputError: there is no member, or the combination is unknown.
        """
        if not members:
            raise InputError("An ensemble has members. Got none; accepted: at least one reward.")
        if len(readouts := _readouts(members)) > 1:
            raise InputError(
                "What is read of the policy is read for one member of an ensemble. Got "
                f"{len(readouts)} probes; accepted: one probe beside other rewards."
            )
        if isinstance(combine, str):
            require_choice("combine", combine, COMBINATIONS)
            combine = COMBINATIONS[combine]
        self.members = tuple(as_reward(member) for member in members)
        self.name = name or " and ".join(member.name for member in self.members)
        self._combine = combine

    @property
    def never_zero(self) -> bool:
        """Whether no score is ever exactly zero."""
        members = all(getattr(member, "never_zero", False) for member in self.members)
        return members and self._combine in COMBINATIONS.values()

    @property
    def reads_written(self) -> bool:
        """Whether a member reads what the policy has recorded."""
        return any(getattr(member, "reads_written", False) for member in self.members)

    @property
    def readout(self) -> Readout | None:
        """What the member that reads the network of the policy reads."""
        return next(iter(_readouts(self.members)), None)

    def __repr__(self) -> str:
        """Show the members."""
        return f"RewardEnsemble({list(self.members)!r})"

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of each step."""
        if not steps:
            return []
        scores = list[list[float]]()
        for member in self.members:
            found = scores_or_fault(member.score(question, steps), steps, 0.0, 1.0)
            if isinstance(found, str):
                raise InputError(
                    f"A member of an ensemble scores each step. Got {found} from {member.name}; "
                    "accepted: one number in [0, 1] for each step."
                )
            scores.append(found)
        log_odds = torch.tensor(scores, dtype=torch.float64).logit()
        return self._combined(log_odds).sigmoid().tolist()

    def check(self, question: str) -> None:
        """Raise `InputError` if a member cannot score solutions of the question."""
        for member in self.members:
            member.check(question)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether all members have room to score these steps."""
        return all(member.fits(question, steps, reading) for member in self.members)

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float] | ServerError], JointHandle, Cost]:
        """Return the log-odds of the new steps; see `llmsmc.models.rewards.reward.Reward`."""
        scores, handles, cost = list[list[list[float]]](), list[CacheHandle](), Cost()
        failures: dict[int, ServerError] = {}
        for member, rows in zip(self.members, handle.split(len(self.members)), strict=True):
            said, kept, spent = member.score_steps(question, solutions, rows, reading=reading)
            failures |= {n: each for n, each in enumerate(said) if isinstance(each, ServerError)}
            scores.append(scores_and_failures(member.name, solutions, said, reading)[0])
            handles.append(kept)
            cost += spent
        combined = [
            failures.get(n) or self._of(rows) for n, rows in enumerate(zip(*scores, strict=True))
        ]
        return combined, JointHandle(tuple(handles)), cost

    def rewind(
        self,
        question: str,
        handle: CacheHandle,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> JointHandle:
        """Return what the members remember of the steps `after`."""
        pairs = zip(self.members, handle.split(len(self.members)), strict=True)
        return JointHandle(tuple(m.rewind(question, r, before, after, reading) for m, r in pairs))

    def _of(self, rows: Sequence[list[float]]) -> list[float]:
        """Return the log-odds of one solution from those of the members."""
        return self._combined(torch.tensor(rows, dtype=torch.float64)).tolist() if rows[0] else []

    def _combined(self, log_odds: Float64[Tensor, "M K"]) -> Float64[Tensor, " K"]:
        combined = self._combine(log_odds)
        fits = isinstance(combined, Tensor) and combined.shape == log_odds.shape[1:]
        if not fits or bool(combined.isnan().any()):
            raise InputError(
                f"An ensemble has one score for each step. Got {reprlib.repr(combined)} for "
                f"{log_odds.shape[1]} steps; accepted: a combination that returns a tensor of "
                "numbers [K] from log-odds [M, K]."
            )
        return combined.double()
