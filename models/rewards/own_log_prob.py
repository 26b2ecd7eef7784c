r"""The policy's own confidence in a step as its score: no network is run for it.

$$r_t = \exp \Bigl( \frac{1}{n_t} \sum_{i \in \text{step } t} \log p(y_i \mid y_{<i}) \Bigr)$$

over the $n_t$ tokens of step t, at temperature 1: the inverse of the perplexity of the step. The
policy has recorded these log-probabilities while it wrote, so that the score costs no positions.

| `tokens` | log r of a step | remark |
| --- | --- | --- |
| mean | the mean of the log-probabilities | the usual one: a long step is not worse than a short |
| sum | their sum | r = p(step): under the product the target is p(x)^(1 + beta) |
| min | the smallest of them | as sure as the policy was of its least likely token |

The token that ends the text belongs to no step.

Reference: Kang, Zhao, Song (2025). Scalable best-of-N selection for large language models via
self-certainty. arXiv 2502.18581: the mean log-probability and the perplexity of a response are the
measures of confidence to which it compares its own.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.checks import require_choice
from llmsmc.core.cost import Cost
from llmsmc.grading.extraction import gives_answer
from llmsmc.models.caches.rows import CacheHandle, CacheRows
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.policy import Policy
from llmsmc.models.rewards.reward import (
    Memoryless,
    Reading,
    Solution,
    Steps,
    Written,
    checked_steps,
)

_OVER: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "min": torch.amin,
}


class OwnLogProb(Memoryless):
    """The probability of a step under the policy that has written it, as the score of the step.

    Attributes:
        policy: the policy; it reads only what somebody else has written.
        tokens: how the log-probabilities of the tokens make that of a step.
        name: `own-log-prob`.
    """

    never_zero = True
    reads_written = True

    def __init__(self, policy: Policy, *, tokens: str = "mean", name: str = "own-log-prob") -> None:
        """Take the policy of the run.

        Raises:
            InputError: there is no such way of joining the tokens.
        """
        require_choice("tokens", tokens, _OVER)
        self.policy, self.tokens, self.name = policy, tokens, name

    def __repr__(self) -> str:
        """Show whose log-probabilities they are."""
        return f"OwnLogProb({self.policy!r}, tokens={self.tokens!r})"

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of each step, as the policy reads it behind the plain question.

        Raises:
            InputError: a step is blank.
        """
        read = checked_steps(steps)
        return self._log_probs(read_plainly(self.policy, question, read)).exp().tolist()

    def check(self, question: str) -> None:
        """Accept any question that the policy answers."""

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return that there is room: the policy has written it."""
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
        begun, scores = time.perf_counter(), list[list[float]]()
        for solution in solutions:
            if not solution.new:
                scores.append([])
                continue
            written = solution.written or read_plainly(self.policy, question, solution.steps)
            first = 0 if reading == "prefix" else len(solution.scored)
            bounds = written.bounds[first:]
            bounds = (bounds[0], bounds[-1]) if reading == "prefix" else bounds
            log_probs = self._log_probs(written, bounds)
            scores.append((log_probs - (-log_probs.expm1()).log()).tolist())
        cost = Cost(reward_seconds=time.perf_counter() - begun)
        return scores, CacheRows.none(len(solutions)), cost

    def _log_probs(
        self, written: Written, bounds: tuple[int, ...] | None = None
    ) -> Float64[Tensor, " K"]:
        """Return log r of the steps between the bounds; zero for a step without tokens."""
        bounds = written.bounds if bounds is None else bounds
        num_tokens = without_end(written, self.policy.eos_ids)
        join, values = _OVER[self.tokens], list[Tensor]()
        for begin, end in zip(bounds, bounds[1:], strict=False):
            tokens = written.log_probs[begin : min(end, num_tokens)]
            values.append(join(tokens) if len(tokens) else tokens.new_zeros(()))
        return torch.stack(values) if values else torch.zeros(0, dtype=torch.float64)


def without_end(written: Written, eos_ids: Collection[int]) -> int:
    """Return the number of tokens up to the last step that is read, but for one that ends it."""
    count = written.bounds[-1]
    return count - (count > 0 and int(written.token_ids[count - 1]) in eos_ids)


def unread(policy: Policy, question: str, steps: Steps) -> Written:
    """Return steps that somebody else has written, behind the question; log-probabilities are 0.

    They have ended if they give an answer.
    """
    pieces = [policy.tokens.encode(step) for step in steps]
    ids = torch.tensor([token for piece in pieces for token in piece], dtype=torch.long)
    bounds = tuple(accumulate(map(len, pieces), initial=0))
    nothing = torch.zeros(len(ids), dtype=torch.float64)
    is_ended = gives_answer("".join(steps))
    return Written(policy.prompt_ids(question), ids, nothing, bounds, is_ended=is_ended)


def read_plainly(policy: Policy, question: str, steps: Steps) -> Written:
    """Return what the policy says of steps that somebody else has written, behind the question."""
    written = unread(policy, question, steps)
    if not len(written.token_ids):
        return written
    token_ids, nothing = written.token_ids[None], torch.zeros(1, dtype=torch.long)
    count = torch.tensor([token_ids.shape[1]])
    request = ScoreRequest(written.prompt_ids, token_ids, count, nothing, CacheRows.none(1))
    return replace(written, log_probs=policy.score_tokens(request)[0].log_probs[0])
