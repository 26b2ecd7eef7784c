"""Batchers: what is asked of shared models, answered for many runs in one batch.

Each belongs to one call of `run_together`. An error is of the request that caused it: where a batch
fails, its requests are tried one by one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llmsmc.core.cost import Cost
from llmsmc.models.batching.scheduler import Answer
from llmsmc.models.policies.decoding.requests import StepRequest
from llmsmc.models.policies.decoding.step_batch import StepBatch
from llmsmc.models.policies.local_language_model import LocalLanguageModel


class ScoreBatcher:
    """Answers all requests at once."""

    is_prompt = True

    def __init__(
        self, answer_all: Callable[[Sequence[Any]], Sequence[Any]], tokens_meanwhile: int = 0
    ) -> None:
        """Take what computes the answers; the last component of each is its cost."""
        self._answer_all, self.tokens_meanwhile = answer_all, tokens_meanwhile
        self._waiting = dict[int, Any]()

    @property
    def is_busy(self) -> bool:
        """Whether there are requests without an answer."""
        return bool(self._waiting)

    def admit(self, key: int, request: Any) -> None:
        """Take a request."""
        self._waiting[key] = request

    def work(self) -> Callable[[], list[Answer]]:
        """Return what answers everything that has been asked up to now, in any thread."""
        waiting, self._waiting = self._waiting, {}
        return lambda: self._answers(waiting)

    def _answers(self, waiting: dict[int, Any]) -> list[Answer]:
        try:
            answers = self._answer_all(list(waiting.values()))
        except Exception as error:
            answers = [error]
            if len(waiting) > 1:
                answers = [self._alone(request) for request in waiting.values()]
        pairs = zip(waiting, answers, strict=True)
        return [(key, answer, _seconds(answer)) for key, answer in pairs]

    def _alone(self, request: Any) -> Any:
        try:
            return self._answer_all([request])[0]
        except Exception as error:
            return error


class StepBatcher:
    """Draws steps, a token at a time; requests join as long as there is room.

    Steps of particles that are more than the limit are drawn when there are no others.
    """

    is_prompt = False
    tokens_meanwhile = 0

    def __init__(self, policy: LocalLanguageModel, max_particles: int) -> None:
        """Make a batcher with nothing to do.

        Args:
            policy: the language model.
            max_particles: how many particles may be in the batch, which has a row for each at most.
        """
        self._policy, self._max_particles = policy, max_particles
        self._batch = StepBatch(policy)
        self._waiting = list[StepRequest]()
        self._keys = dict[StepRequest, int]()

    @property
    def is_busy(self) -> bool:
        """Whether there are requests without an answer."""
        return bool(self._keys)

    def admit(self, key: int, request: StepRequest) -> None:
        """Take a request; it joins before the next token."""
        self._waiting.append(request)
        self._keys[request] = key

    def work(self) -> Callable[[], list[Answer]]:
        """Return what draws one token of every solution, and answers those that are complete."""
        return self._advance

    def _advance(self) -> list[Answer]:
        answers = self._join()
        joined = self._batch.requests
        if joined:
            try:
                answers += self._batch.advance()
            except Exception as error:  # the state of the batch is not known
                self._batch = StepBatch(self._policy)
                answers += [(request, error) for request in joined]
        return [(self._keys.pop(request), drawn, _seconds(drawn)) for request, drawn in answers]

    def _join(self) -> list[tuple[StepRequest, Any]]:
        """Let in who waits, in order; return the errors of those who cannot."""
        joining, num_particles = list[StepRequest](), sum(map(len, self._batch.requests))
        while self._waiting:
            num_particles += len(self._waiting[0])
            if num_particles > self._max_particles and num_particles > len(self._waiting[0]):
                break
            joining.append(self._waiting.pop(0))
        if not joining:
            return []
        try:
            self._batch.join(joining)
        except Exception as error:
            return [(joining[0], error)] if len(joining) == 1 else self._join_alone(joining)
        return []

    def _join_alone(self, joining: Sequence[StepRequest]) -> list[tuple[StepRequest, Any]]:
        failed = list[tuple[StepRequest, Any]]()
        for request in joining:
            try:
                self._batch.join([request])
            except Exception as error:
                failed.append((request, error))
        return failed


def _seconds(answer: Any) -> float:
    """Return what an answer has taken."""
    if isinstance(answer, Exception):
        return 0.0
    cost: Cost = answer[-1]
    return cost.policy_seconds + cost.reward_seconds
