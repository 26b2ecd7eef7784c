"""Models that several runs share: what they ask for at the same time is computed in one batch.

A shared model stands for another one. Within `run_together` it passes on what it is asked; outside
it answers as the other one does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from llmsmc.core.checks import require_count
from llmsmc.core.cost import Cost
from llmsmc.errors import ServerError
from llmsmc.models.batching.batchers import ScoreBatcher, StepBatcher
from llmsmc.models.batching.turns import ask, takes_turns
from llmsmc.models.caches.rows import CacheHandle
from llmsmc.models.policies.decoding.requests import (
    Readout,
    ScoreRequest,
    StepRequest,
    StepTokens,
    TokenScores,
)
from llmsmc.models.policies.decoding.token_scoring import score
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.policies.llama_cpp_model import LlamaCppModel
from llmsmc.models.policies.local_language_model import LocalLanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.rewards.reward import (
    MeasuredReward,
    Reading,
    Reward,
    ScoringRequest,
    Solution,
    Steps,
)
from llmsmc.models.rewards.reward_model import RewardModel, score_together

MAX_PARTICLES: Final = 1024

Scored = tuple[Sequence[list[float] | ServerError], CacheHandle, Cost]
"""What a reward answers; see `llmsmc.models.rewards.reward.Reward`."""


@dataclass(frozen=True, eq=False)
class _Steps:
    """Who is asked for steps."""

    policy: LocalLanguageModel
    max_particles: int

    def batcher(self) -> StepBatcher:
        return StepBatcher(self.policy, self.max_particles)


@dataclass(frozen=True, eq=False)
class _Scores:
    """Who is asked to score tokens."""

    policy: LocalLanguageModel

    def batcher(self) -> ScoreBatcher:
        return ScoreBatcher(lambda requests: score(self.policy, requests))


@dataclass(frozen=True, eq=False)
class _Rewards:
    """Who is asked to score steps; only reward models score those of several runs in one batch."""

    reward: Reward
    tokens_meanwhile: int

    def batcher(self) -> ScoreBatcher:
        return ScoreBatcher(self._all, self.tokens_meanwhile)

    def _all(self, requests: Sequence[ScoringRequest]) -> Sequence[Scored]:
        if isinstance(self.reward, RewardModel):
            return score_together(self.reward, requests)
        return [self._alone(request) for request in requests]

    def _alone(self, request: ScoringRequest) -> Scored:
        return self.reward.score_steps(
            request.question, request.solutions, request.handle, reading=request.reading
        )


class _Shared(LocalLanguageModel):
    """What draws and scores for several runs in one batch."""

    def __init__(self, policy: LocalLanguageModel, *, max_particles: int = MAX_PARTICLES) -> None:
        """Share a language model.

        Args:
            policy: the language model.
            max_particles: of how many particles steps are drawn at a time; the memory that their
                caches take is limited by it. Steps of more than that in one run are drawn alone.

        Raises:
            InputError: `max_particles` is no count.
        """
        require_count("max_particles", max_particles)
        vars(self).update(vars(policy))  # whatever it knows, read or compiled once
        self._steps, self._scores = _Steps(policy, max_particles), _Scores(policy)

    def sample_step(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        """Draw one step for each of B particles; see `LocalLanguageModel.sample_step`."""
        if not takes_turns():
            return super().sample_step(request)
        # The others in the batch are its work while stragglers finish a step.
        drawn: tuple[StepTokens, Cost] = ask(self._steps, replace(request, ahead=None))
        return drawn

    def score_tokens(self, request: ScoreRequest) -> tuple[TokenScores, Cost]:
        """Score given tokens; see `LocalLanguageModel.score_tokens`."""
        if not takes_turns():
            return super().score_tokens(request)
        scores: tuple[TokenScores, Cost] = ask(self._scores, request)
        return scores


class SharedLanguageModel(_Shared, LanguageModel):
    """A language model that draws and scores for several runs in one batch."""


class SharedLlamaCppModel(_Shared, LlamaCppModel):
    """A language model in llama.cpp that draws and scores for several runs in one batch."""


def share_policy(policy: Policy, *, max_particles: int = MAX_PARTICLES) -> Policy:
    """Return a policy that several runs can share; one on a server is shared as it is."""
    if isinstance(policy, LanguageModel):
        return SharedLanguageModel(policy, max_particles=max_particles)
    if isinstance(policy, LlamaCppModel):
        return SharedLlamaCppModel(policy, max_particles=max_particles)
    return policy


class SharedReward:
    """A reward that scores the steps of several runs in one batch."""

    def __init__(self, reward: Reward, *, tokens_meanwhile: int = 0) -> None:
        """Share a reward.

        Args:
            reward: the reward.
            tokens_meanwhile: how many tokens of other runs language models draw while steps are
                scored, in a thread of its own. It gains where the reward has a device, a server or
                processors to itself; it must not have its network in common with a policy.

        Raises:
            InputError: `tokens_meanwhile` is no count.
        """
        require_count("tokens_meanwhile", tokens_meanwhile, minimum=0)
        self._reward, self._rewards = reward, _Rewards(reward, tokens_meanwhile)
        self.reads_written = bool(getattr(reward, "reads_written", False))
        self.readout: Readout | None = getattr(reward, "readout", None)
        if isinstance(reward, MeasuredReward):
            self.room_behind = reward.room_behind

    def __repr__(self) -> str:
        """Show whose place it takes."""
        return f"SharedReward({self._reward!r})"

    @property
    def name(self) -> str:
        """What it is called."""
        return self._reward.name

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of each step, read plainly, with nothing remembered."""
        return self._reward.score(question, steps)

    def check(self, question: str) -> None:
        """Raise `InputError` if no solution of the question can be scored."""
        self._reward.check(question)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether there is room to score these steps."""
        return self._reward.fits(question, steps, reading)

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> Scored:
        """Return the log-odds of what is new; see `llmsmc.models.rewards.reward.Reward`."""
        if not takes_turns():
            return self._reward.score_steps(question, solutions, handle, reading=reading)
        request = ScoringRequest(question, solutions, handle, reading)
        scores: Scored = ask(self._rewards, request)
        return scores

    def rewind(
        self,
        question: str,
        handle: CacheHandle,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> CacheHandle:
        """Return what is remembered of the steps `after`, the first ones of those `before`."""
        return self._reward.rewind(question, handle, before, after, reading)
