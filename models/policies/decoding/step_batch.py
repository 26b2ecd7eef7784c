"""Steps of any number of requests, drawn side by side by one language model.

Each of them costs what it would alone, in tokens, in calls of the model and, but for padding, in
positions: a forward pass counts as a call of everybody who takes part. Its time is shared out by
rows.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from llmsmc.core.cost import Cost
from llmsmc.models.policies.decoding.loop_members import Entry, Member, StepLaw
from llmsmc.models.policies.decoding.requests import (
    CachedPrefix,
    Prefix,
    StepRequest,
    StepTokens,
    cached,
)
from llmsmc.models.policies.decoding.token_loop import TokenLoop

if TYPE_CHECKING:
    from llmsmc.models.policies.language_model import LanguageModel

Drawn = tuple[StepTokens, Cost] | Exception
"""The answer to a request."""


class StepBatch:
    """A token loop of a language model, with what has to be computed before a request can join."""

    def __init__(self, policy: "LanguageModel") -> None:
        """Make a batch with no request."""
        self._policy = policy
        self._loop = TokenLoop(policy.forward, policy.eos_ids, policy.device)
        self._requests: dict[Member, tuple[StepRequest, Cost]] = {}

    @property
    def num_rows(self) -> int:
        """How many rows are in the batch."""
        return self._loop.num_rows

    @property
    def requests(self) -> list[StepRequest]:
        """The requests that have joined."""
        return [request for request, _ in self._requests.values()]

    def join(self, requests: Sequence[StepRequest]) -> None:
        """Let requests take part from the next token on, or none of them if something fails."""
        begun, policy = time.perf_counter(), self._policy
        with torch.no_grad():
            prefixes = [Prefix(r.prompt_ids, r.token_ids, r.num_tokens, r.memory) for r in requests]
            found = cached(policy.forward, policy.device, prefixes)
            pairs = zip(requests, prefixes, found, strict=True)
            entries = [self._entry(*each) for each in pairs]
            members = [self._loop.join(entry) for entry in entries]
        seconds = (time.perf_counter() - begun) / len(requests)
        for request, prefix, member in zip(requests, found, members, strict=True):
            spent = Cost(
                policy_positions=prefix.positions,
                model_calls=prefix.calls,
                policy_seconds=seconds,
            )
            self._requests[member] = request, spent

    def advance(self) -> list[tuple[StepRequest, Drawn]]:
        """Draw one token for everybody; return the answers of those who leave."""
        with torch.no_grad():
            gone = self._loop.advance()
        answers: list[tuple[StepRequest, Drawn]] = []
        for member in gone:
            request, spent = self._requests.pop(member)
            drawn = member.outcome
            assert drawn is not None
            if isinstance(drawn, Exception):
                answers.append((request, drawn))
                continue
            cost = Cost(
                generated_tokens=int(drawn.num_tokens.sum()),
                policy_positions=member.positions,
                model_calls=member.calls,
                policy_seconds=member.seconds,
            )
            answers.append((request, (drawn, spent + cost)))
        return answers

    def run(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        """Draw the step of a single request.

        Raises:
            NumericalError: a logit is NaN.
        """
        self.join([request])
        while not (answers := self.advance()):
            pass
        answer = answers[0][1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _entry(self, request: StepRequest, prefix: Prefix, found: CachedPrefix) -> Entry:
        policy = self._policy
        mask = None if request.constraint is None else policy.tokens.mask(request.constraint)
        states = None if mask is None else mask.states(request.token_ids, request.num_tokens)
        forced_ids = () if request.forced is None else request.forced.token_ids
        return Entry(
            StepLaw(policy.tokens.automaton(request.rule), request.temperature, mask, forced_ids),
            found.rows,
            found.row_of,
            prefix.last_ids,
            request.max_tokens,
            request.room(policy.context_length),
            request.uniforms,
            request.numbers,
            request.step,
            states,
            request.starts,
            request.forced,
        )
