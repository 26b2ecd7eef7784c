r"""The log-ratio of a second language model and the policy, on the tokens that the policy drew.

$$Q_t = \beta \sum_{i \le t} \log \frac{\pi(y_i \mid y_{<i})}{p(y_i \mid y_{<i})}, \qquad
r_t = \sigma(Q_t)$$

over the tokens y up to the end of step t, behind the prompt of the policy p. It is the implicit
reward of `llmsmc.models.rewards.implicit_reward` with the policy as the reference. The policy has
recorded its log-probabilities while it wrote, so that only the other model runs. The other way
round, with the policy above and the other model below, it prefers what the policy likes better than
a weaker model does.

As there, a score is of the solution so far, whatever the reading: `aggregation="last"` counts each
of its parts once.

Reference: Yuan et al. (2024). Free process rewards without process labels. arXiv 2412.01981. The
other way round: Li et al. (2022). Contrastive decoding. arXiv 2210.15097.

Shapes: B solutions with new steps, L tokens.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError
from llmsmc.models.caches.rows import CacheHandle, CacheRows, join_handles, padded_rows
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.policies.policy import Policy
from llmsmc.models.rewards.implicit_reward import COEFFICIENT
from llmsmc.models.rewards.own_log_prob import read_plainly, without_end
from llmsmc.models.rewards.reward import (
    Memoryless,
    Reading,
    Solution,
    Steps,
    Written,
    checked_steps,
    cost_of_reading,
)

_REMEMBERED: Final = 2**16

_Known = tuple[tuple[int, ...], tuple[int, ...]]
"""The tokens of a prompt, and those behind it."""


class PolicyRatio(Memoryless):
    """A language model against the policy that writes, which have the same tokens.

    Attributes:
        model: the other model.
        policy: the policy.
        coefficient: the factor beta; below zero where the policy stands above.
        name: where the other model came from.
    """

    never_zero = True
    reads_written = True

    def __init__(
        self,
        model: LanguageModel,
        policy: Policy,
        *,
        coefficient: float | int = COEFFICIENT,
        policy_above: bool = False,
        name: str = "",
    ) -> None:
        """Take two models that are loaded already.

        Raises:
            InputError: they have other tokens, or the coefficient is no positive number.
        """
        if model.tokens.ids != policy.tokens.ids:
            raise InputError(
                f"Both models of a ratio read the same tokens. Got {model.name} beside the policy "
                f"{policy.name}, with another vocabulary; accepted: a model with its tokens."
            )
        if not 0 < coefficient < math.inf:
            raise InputError(
                f"coefficient is a factor. Got {coefficient!r}; accepted: 0 < coefficient < "
                "infinity."
            )
        self.model, self.policy = model, policy
        self.coefficient = -coefficient if policy_above else coefficient
        self.name = name or model.name
        # Q of the tokens read last, a function of them.
        self._values: dict[_Known, float] = {}

    def __repr__(self) -> str:
        """Show which models they are."""
        return f"PolicyRatio({self.model!r}, {self.policy!r}, coefficient={self.coefficient})"

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of the solution up to each step, which both models read.

        Raises:
            InputError: a step is blank, or the solution does not fit into the context.
        """
        solution = Solution((), checked_steps(steps))
        ((values,), _, _) = self.score_steps(question, [solution], CacheRows.none(1))
        return torch.tensor(values, dtype=torch.float64).sigmoid().tolist()

    def check(self, question: str) -> None:
        """Raise `InputError` if the question leaves no room for a step."""
        self.model.prompt_ids(question)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether the other model has room for these steps."""
        if self.model.context_length >= self.policy.context_length:
            return True
        length = sum(len(self.model.tokens.encode(step)) for step in steps)
        return len(self.model.prompt_ids(question)) + length <= self.model.context_length

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheHandle, Cost]:
        """Return the log-odds of the new steps; see `llmsmc.models.rewards.reward.Reward`."""
        begun, scores = time.perf_counter(), [list[float]() for _ in solutions]
        rows = [n for n, solution in enumerate(solutions) if solution.new]
        if not rows:
            return scores, handle, Cost()
        asked = [solutions[n] for n in rows]
        written = [
            each.written or read_plainly(self.policy, question, each.steps) for each in asked
        ]
        firsts = [len(each.scored) for each in asked]
        values, kept, cost = self._read(written, firsts, handle.take(torch.tensor(rows)))
        for n, row in zip(rows, values, strict=True):
            scores[n] = row[-1:] if reading == "prefix" else row
        rest = [n for n, solution in enumerate(solutions) if not solution.new]
        joined = join_handles([kept, handle.take(torch.tensor(rest, dtype=torch.long))])
        joined = joined.take(torch.tensor([*rows, *rest]).argsort())
        return scores, joined, cost + Cost(reward_seconds=time.perf_counter() - begun)

    def _read(
        self, written: Sequence[Written], firsts: Sequence[int], handle: CacheHandle
    ) -> tuple[list[list[float]], CacheRows, Cost]:
        """Return Q at the end of each step from the first new one on, what is cached, the cost."""
        assert isinstance(handle, CacheRows), "a single model has rows of one cache"
        if len(self._values) > _REMEMBERED:
            self._values.clear()
        prompt_ids = written[0].prompt_ids
        texts = [
            tuple(each.token_ids[: without_end(each, self.policy.eos_ids)].tolist())
            for each in written
        ]
        known = [
            self._values.get((prompt_ids, ids[: each.bounds[first]]))
            for ids, each, first in zip(texts, written, firsts, strict=True)
        ]
        # Without the value of the steps before, they are read once more.
        firsts = [0 if q is None else first for q, first in zip(known, firsts, strict=True)]
        starts = [each.bounds[first] for each, first in zip(written, firsts, strict=True)]
        token_ids, counts = padded_rows(texts)
        if len(prompt_ids) + int(counts.max()) > self.model.context_length:
            raise InputError(
                f"The solution does not fit into the context of {self.name}. Got more than "
                f"{self.model.context_length} tokens; accepted: fewer or shorter steps."
            )
        begins = torch.tensor(starts)
        needed = len(prompt_ids) + begins - 1
        held = handle.truncate(needed)
        held = held.keep(held.lengths == needed)
        found, spent = self.model.score_tokens(
            ScoreRequest(prompt_ids, token_ids, counts, begins, held)
        )
        values = list[list[float]]()
        for row, (each, ids, first, q) in enumerate(
            zip(written, texts, firsts, known, strict=True)
        ):
            start, end = starts[row], len(ids)
            ratio = found.log_probs[row, : end - start] - each.log_probs[start:end]
            sums = (q or 0.0) + self.coefficient * ratio.cumsum(0)
            ends = [min(bound, end) for bound in each.bounds[first + 1 :]]
            values.append([float(sums[bound - start - 1]) for bound in ends])
            self._values |= {
                (prompt_ids, ids[:bound]): value
                for bound, value in zip(ends, values[-1], strict=True)
            }
        cost = replace(cost_of_reading(spent), scored_tokens=int((counts - begins).sum()))
        return values, found.handle, cost
