r"""An implicit process reward: the log-ratio of two language models.

$$Q_t = \beta \sum_{i \le t} \log \frac{\pi(y_i \mid \text{question}, y_{<i})}
{\pi_{\text{ref}}(y_i \mid \text{question}, y_{<i})}, \qquad r_t = \sigma(Q_t)$$

over the tokens y of the answer up to the last one of step t. The value is no probability: it is a
sum that is not bounded. The link is that of the training, which fits $\sigma$ of the sum over the
whole answer to whether that is right. So a score is of the solution so far, whatever the reading:
`aggregation="last"` counts each of its parts once.

The steps are joined by blank lines. Both models keep their caches; each token is read once.

Reference: Yuan et al. (2024). Free process rewards without process labels. arXiv 2412.01981.
"""

import math
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError
from llmsmc.models.caches.rows import CacheHandle, CacheRows, JointHandle, join_handles, padded_rows
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.rewards.reward import Reading, Solution, Steps, checked_steps, cost_of_reading
from llmsmc.models.text.vocabulary import neutralized

COEFFICIENT: Final = 0.001  # that of EurusPRM
SEPARATOR: Final = "\n\n"

_REMEMBERED: Final = 2**16

Ids = tuple[int, ...]


class ImplicitReward:
    """Two language models with the same tokens, such as EurusPRM and what it was trained from.

    Attributes:
        policy: the language model that was trained as a reward.
        reference: what it was trained from.
        coefficient: the factor beta.
        name: where the former came from.
    """

    never_zero = True

    def __init__(
        self,
        policy: LanguageModel,
        reference: LanguageModel,
        *,
        coefficient: float = COEFFICIENT,
        name: str = "",
    ) -> None:
        """Take two models that are loaded already; `from_pretrained` is the usual way."""
        if policy.tokenizer.get_vocab() != reference.tokenizer.get_vocab():
            raise InputError(
                f"Both models read the same tokens. Got {reference.name} beside {policy.name}, "
                "with another vocabulary; accepted: the model that the reward was trained from."
            )
        if not 0 < coefficient < math.inf:
            raise InputError(
                f"coefficient is a factor. Got {coefficient!r}; accepted: 0 < coefficient < "
                "infinity."
            )
        self.policy, self.reference, self.coefficient = policy, reference, coefficient
        self.name = name or policy.name
        # Q of the answers read last: a function of their tokens, so that it can be remembered.
        self._values: dict[tuple[str, Ids], float] = {}
        self._piece = lru_cache(_REMEMBERED)(self._encoded)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        reference: str | Path,
        *,
        coefficient: float = COEFFICIENT,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        quantization: str | None = None,
    ) -> "ImplicitReward":
        """Load both models, each as by `LanguageModel.from_pretrained`."""
        policy, other = (
            LanguageModel.from_pretrained(source, quantization, device, dtype)
            for source in (name_or_path, reference)
        )
        return cls(policy, other, coefficient=coefficient)

    def __repr__(self) -> str:
        """Show which models they are."""
        return f"ImplicitReward({self.policy!r}, {self.reference!r})"

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of the solution up to each step, reading it in one pass of each model.

        Raises:
            InputError: a step is blank, or the solution does not fit into the context.
        """
        read = checked_steps(steps)
        ids, ends = self._ids(read)
        if not read:
            return []
        if not self.fits(question, read):
            raise self._does_not_fit()
        log_probs = [model.log_probs(self._prompt(question), ids) for model in self._models]
        values = self._sums(log_probs[0] - log_probs[1])
        return values[torch.tensor(ends) - 1].sigmoid().tolist()

    def check(self, question: str) -> None:
        """Raise `InputError` if the question cannot be read, or leaves no room for a step."""
        for model in self._models:
            model.prompt_ids(question)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether the solution can be scored within the context of both."""
        room = min(model.context_length for model in self._models)
        return len(self._prompt(question)) + len(self._ids(steps)[0]) <= room

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheHandle, Cost]:
        """Return the log-odds of the new steps; see `llmsmc.models.rewards.reward.Reward`."""
        begun = time.perf_counter()
        if not all(self.fits(question, solution.steps) for solution in solutions if solution.new):
            raise self._does_not_fit()
        groups: dict[Ids, list[int]] = {}
        for n, solution in enumerate(solutions):
            if solution.new:
                groups.setdefault(self._ids(solution.steps)[0], []).append(n)
        cost = Cost()
        if groups:
            handle, cost = self._read(question, solutions, groups, handle)
        scores = []
        for solution in solutions:
            ids, ends = self._ids(solution.steps)
            new = ends[len(solution.scored) :][-1 if reading == "prefix" else 0 :]
            scores.append([self._values[question, ids[:end]] for end in new])
        seconds = time.perf_counter() - begun
        return scores, handle, cost + Cost(reward_seconds=seconds)

    def rewind(
        self,
        question: str,
        handle: CacheHandle,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> CacheHandle:
        """Return what is cached of the steps `after`, the first ones of those `before`."""
        counts = torch.tensor([len(self._ids(steps)[0]) for steps in after])
        return _truncated(handle, len(self._prompt(question)) + counts - 1)

    def _read(
        self,
        question: str,
        solutions: Sequence[Solution],
        groups: dict[Ids, list[int]],
        handle: CacheHandle,
    ) -> tuple[CacheHandle, Cost]:
        """Fill in the values of what is new in the groups, each of which has the same tokens."""
        if len(self._values) > _REMEMBERED:
            self._values.clear()
        parts = handle.split(2)
        present = [all(bool(p.present[n]) for p in _rows(parts)) for n in range(len(solutions))]
        holders, starts, bases = list[int](), list[int](), list[float]()
        for ids, rows in groups.items():
            known = min((solutions[n].scored for n in rows), key=len)
            start = len(self._ids(known)[0])
            holder = next((n for n in rows if present[n]), rows[0])
            if not present[holder] or (question, ids[:start]) not in self._values:
                start = 0
            holders.append(holder)
            starts.append(start)
            bases.append(self._values[question, ids[:start]] if start else 0.0)
        token_ids, counts = padded_rows(list(groups))
        begins = torch.tensor(starts)
        prompt_ids = self._prompt(question)
        held = _truncated(handle.take(torch.tensor(holders)), len(prompt_ids) + begins - 1)
        log_probs, kept, cost = list[Tensor](), list[CacheHandle](), Cost()
        for model, held_rows in zip(self._models, _rows(held.split(2)), strict=True):
            request = ScoreRequest(prompt_ids, token_ids, counts, begins, held_rows)
            scores, spent = model.score_tokens(request)
            log_probs.append(scores.log_probs)
            kept.append(scores.handle)
            cost += cost_of_reading(spent)
        values = self._sums(log_probs[0] - log_probs[1])
        for row, (ids, members) in enumerate(groups.items()):
            ends = {end for n in members for end in self._ids(solutions[n].steps)[1]}
            for end in sorted(end for end in ends if end > starts[row]):
                value = bases[row] + float(values[row, end - starts[row] - 1])
                self._values[question, ids[:end]] = value
        rest = [n for n, solution in enumerate(solutions) if not solution.new]
        owners = [row for row, members in enumerate(groups.values()) for _ in members]
        order = torch.tensor([*[n for rows in groups.values() for n in rows], *rest]).argsort()
        new = JointHandle(tuple(kept)).take(torch.tensor(owners))
        joined = join_handles([new, handle.take(torch.tensor(rest, dtype=torch.long))])
        return joined.take(order), cost + Cost(scored_tokens=int((counts - begins).sum()))

    @property
    def _models(self) -> tuple[LanguageModel, LanguageModel]:
        return self.policy, self.reference

    def _prompt(self, question: str) -> Ids:
        return self.policy.prompt_ids(question)

    def _ids(self, steps: Steps) -> tuple[Ids, list[int]]:
        """Return the tokens of an answer, and how many there are up to the end of each step."""
        ids, ends = list[int](), list[int]()
        for number, step in enumerate(steps):
            ids += (self._piece(SEPARATOR) if number else ()) + self._piece(step.strip())
            ends.append(len(ids))
        return tuple(ids), ends

    def _encoded(self, text: str) -> Ids:
        tokenizer = self.policy.tokenizer
        return tuple(tokenizer.encode(neutralized(tokenizer, text), add_special_tokens=False))

    def _sums(self, log_ratios: Float64[Tensor, "*B L"]) -> Float64[Tensor, "*B L"]:
        return self.coefficient * log_ratios.cumsum(-1)

    def _does_not_fit(self) -> InputError:
        room = min(model.context_length for model in self._models)
        return InputError(
            f"The solution does not fit into the context of {self.name}. Got more than {room} "
            "tokens; accepted: fewer or shorter steps."
        )


def _rows(parts: Sequence[CacheHandle]) -> list[CacheRows]:
    """Return the memories of single models as what they are."""
    return [part for part in parts if isinstance(part, CacheRows)]


def _truncated(handle: CacheHandle, lengths: Tensor) -> JointHandle:
    """Forget all but the first `lengths` tokens of each solution, in both models."""
    return JointHandle(tuple(rows.truncate(lengths) for rows in _rows(handle.split(2))))
