r"""A language model that writes a critique of a solution, and is then asked whether it is right.

$$r(x_{1:t}) = \frac{1}{K} \sum_{k=1}^{K} \frac{p(\text{yes} \mid x_{1:t}, c_k)}
{p(\text{yes} \mid x_{1:t}, c_k) + p(\text{no} \mid x_{1:t}, c_k)}, \qquad
c_k \sim p(\text{critique} \mid x_{1:t})$$

A score is of the solution so far, whatever the reading, so that `aggregation="last"` counts each
of its parts once. The critiques are drawn with a seed that is made from the text which they judge:
the score is a function of that, whenever it is asked for. Another `seed` gives other critiques.

Nothing is cached: the solution stands before the instruction. Scores are remembered.

Reference: Khalifa et al. (2025). Process reward models that think. arXiv 2504.16828.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.checks import require_count
from llmsmc.core.cost import Cost
from llmsmc.core.randomness import RandomStreams
from llmsmc.errors import InputError
from llmsmc.models.caches.rows import CacheHandle, CacheRows, padded_rows
from llmsmc.models.policies.decoding.requests import ScoreRequest, StepRequest, UniformTables
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.rewards.reward import (
    Memoryless,
    Reading,
    Solution,
    Steps,
    checked_steps,
    cost_of_reading,
)
from llmsmc.models.rewards.reward_ensemble import log_odds_of_mean
from llmsmc.models.text.chat import chat_ids, checked_text
from llmsmc.models.text.stopping import EOS, STOP, Delimiter
from llmsmc.models.text.vocabulary import neutralized

INSTRUCTION: Final = (
    "Here are a problem and the first steps of a solution.\n\n"
    "[Math Problem]\n\n{problem}\n\n[Solution]\n\n{solution}\n\n"
    "Go through the steps one by one, and say of each of them whether it is right. What has not "
    "been done yet is no error. Then answer with yes or no: Is the solution correct?"
)
OPENING: Final = "\nLet's verify step by step:"
VERDICT: Final = "Is the solution correct?"
YES, NO = " yes", " no"

MAX_POSITIONS: Final = 2**15  # tokens of the prompts that are judged at once

_REMEMBERED: Final = 2**16

Ids = tuple[int, ...]


class GenerativeJudge(Memoryless):
    """A judge that thinks before it says yes or no, such as ThinkPRM.

    Attributes:
        model: the language model.
        num_critiques: how many critiques a score is the mean of.
        max_tokens: of a critique, at which it is cut off.
        temperature: at which critiques are drawn; 0 takes the most probable token.
        seed: from which the seed of each critique is made.
        instruction: what is asked; `{problem}` and `{solution}` stand for those.
        name: where the model came from.
    """

    never_zero = True

    def __init__(
        self,
        model: LanguageModel,
        *,
        num_critiques: int = 1,
        max_tokens: int = 2048,
        temperature: float | int = 0.6,
        seed: int = 0,
        instruction: str = INSTRUCTION,
        name: str = "",
    ) -> None:
        """Take a language model that is loaded already.

        Raises:
            InputError: a count is not positive, or the instruction does not show the solution.
        """
        require_count("num_critiques", num_critiques)
        require_count("max_tokens", max_tokens)
        if "{problem}" not in instruction or "{solution}" not in instruction:
            raise InputError(
                f"A judge sees the problem and the solution. Got {instruction!r}; accepted: an "
                "instruction with {problem} and {solution}."
            )
        if temperature < 0:
            raise InputError(f"temperature is a number. Got {temperature!r}; accepted: >= 0.")
        self.model, self.num_critiques, self.max_tokens = model, num_critiques, max_tokens
        self.temperature, self.seed, self.instruction = temperature, seed, instruction
        self.name = name or model.name
        self._scores: dict[tuple[str, Steps], float] = {}
        self._prompt = lru_cache(_REMEMBERED)(self._encoded_prompt)
        self._verdict_ids = self._encoded("\n" + VERDICT)
        self._label_ids = (self._encoded(YES), self._encoded(NO))

    def __repr__(self) -> str:
        """Show which model judges."""
        return f"GenerativeJudge({self.model!r}, num_critiques={self.num_critiques})"

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the score of the solution up to each step.

        Raises:
            InputError: a step is blank, or there is no room to judge the solution.
        """
        read = checked_steps(steps)
        prefixes = [read[:count] for count in range(1, len(read) + 1)]
        log_odds, _ = self._judged(question, prefixes)
        return log_odds.sigmoid().tolist()

    def check(self, question: str) -> None:
        """Raise `InputError` if the question cannot be read, or leaves no room for a critique."""
        self._require_room(len(self._prompt(question, ())))

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether there is room for a critique of these steps."""
        return self._has_room(len(self._prompt(question, steps)))

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
        asked = [_prefixes(solution, reading) for solution in solutions]
        if len(self._scores) > _REMEMBERED:
            self._scores.clear()
        prefixes = dict.fromkeys(prefix for prefixes in asked for prefix in prefixes)
        new = [prefix for prefix in prefixes if (question, prefix) not in self._scores]
        log_odds, cost = self._judged(question, new)
        for prefix, value in zip(new, log_odds.tolist(), strict=True):
            self._scores[question, prefix] = value
        scores = [[self._scores[question, prefix] for prefix in prefixes] for prefixes in asked]
        seconds = time.perf_counter() - begun
        return scores, CacheRows.none(len(solutions)), cost + Cost(reward_seconds=seconds)

    def _judged(
        self, question: str, prefixes: Sequence[Steps]
    ) -> tuple[Float64[Tensor, " K"], Cost]:
        """Return the log-odds of the score of each of K solutions, and the cost."""
        prompts = [self._prompt(question, prefix) for prefix in prefixes]
        longest = max(map(len, prompts), default=0)
        self._require_room(longest)
        size = max(1, MAX_POSITIONS // max(1, longest * self.num_critiques))
        judged, cost = [torch.zeros(0, dtype=torch.float64)], Cost()
        for begin in range(0, len(prompts), size):
            seeds = [
                f"critique {k} of {steps!r} as an answer to {question!r}"
                for steps in prefixes[begin : begin + size]
                for k in range(self.num_critiques)
            ]
            rows = [p for p in prompts[begin : begin + size] for _ in range(self.num_critiques)]
            values, spent = self._verdicts(rows, seeds)
            judged.append(log_odds_of_mean(values.reshape(-1, self.num_critiques).T))
            cost += spent
        return torch.cat(judged), cost

    def _verdicts(
        self, prompts: Sequence[Ids], seeds: Sequence[str]
    ) -> tuple[Float64[Tensor, " R"], Cost]:
        """Return the log-odds of "yes" against "no" behind a critique of each of R prompts."""
        shared = _shared(prompts)
        critiques, cost = self._critiques(shared, [ids[len(shared) :] for ids in prompts], seeds)
        rows = [critique + label for label in self._label_ids for critique in critiques]
        token_ids, counts = padded_rows(rows)
        labels = [len(label) for label in self._label_ids for _ in critiques]
        starts = counts - torch.tensor(labels)
        scores, spent = self.model.score_tokens(
            ScoreRequest(shared, token_ids, counts, starts, CacheRows.none(len(rows)))
        )
        yes, no = scores.log_probs.sum(1).reshape(2, -1)
        return yes - no, cost + cost_of_reading(spent, sum(map(len, prompts)))

    def _critiques(
        self, shared: Ids, rests: Sequence[Ids], seeds: Sequence[str]
    ) -> tuple[list[Ids], Cost]:
        """Return what stands behind `shared` with a critique, up to where the label is due."""
        token_ids, counts = padded_rows(rests)
        streams = RandomStreams(self.seed)
        drawn, cost = self.model.sample_step(
            StepRequest(
                shared,
                token_ids,
                counts,
                CacheRows.none(len(rests)),
                rule=Delimiter(VERDICT),
                max_tokens=self.max_tokens,
                max_total_tokens=self.model.context_length - len(shared) - self._room_for_verdict,
                temperature=self.temperature,
                uniforms=UniformTables([streams.generator(0, seed) for seed in seeds]),
            )
        )
        written = []
        for row, rest in enumerate(rests):
            reason, count = int(drawn.stop_reasons[row]), int(drawn.num_tokens[row])
            ids = drawn.token_ids[row, : count - (reason == EOS)].tolist()
            written.append((*rest, *ids, *(() if reason == STOP else self._verdict_ids)))
        return written, cost_of_reading(cost)

    def _encoded_prompt(self, question: str, steps: Steps) -> Ids:
        """Return the chat that asks for a critique, and how it begins."""
        tokenizer = self.model.tokenizer
        problem = checked_text(tokenizer, "question", question)
        lines = [f"Step {number}: {step.strip()}" for number, step in enumerate(steps, start=1)]
        solution = neutralized(tokenizer, "\n".join(lines))
        before, after = self.instruction.split("{solution}", 1)
        content = (
            before.replace("{problem}", problem) + solution + after.replace("{problem}", problem)
        )
        chat = chat_ids(tokenizer, [{"role": "user", "content": content}])
        return chat + self._encoded(OPENING)

    def _encoded(self, text: str) -> Ids:
        return tuple(self.model.tokenizer.encode(text, add_special_tokens=False))

    @property
    def _room_for_verdict(self) -> int:
        return len(self._verdict_ids) + max(map(len, self._label_ids))

    def _has_room(self, length: int) -> bool:
        return length + self.max_tokens + self._room_for_verdict <= self.model.context_length

    def _require_room(self, length: int) -> None:
        if not self._has_room(length):
            raise InputError(
                f"There is no room for a critique in the context of {self.name}. Got {length} "
                f"tokens and max_tokens={self.max_tokens}; accepted: "
                f"{self.model.context_length - self._room_for_verdict} together."
            )


def _prefixes(solution: Solution, reading: Reading) -> list[Steps]:
    """Return the solutions so far that are judged."""
    steps, first = solution.steps, len(solution.scored) + 1
    prefixes = [steps[:count] for count in range(first, len(steps) + 1)]
    return prefixes[-1:] if reading == "prefix" else prefixes


def _shared(rows: Sequence[Ids]) -> Ids:
    """Return the ids with which all rows begin."""
    first, last = min(rows), max(rows)
    pairs = zip(first, last, strict=False)
    return first[: next((n for n, (a, b) in enumerate(pairs) if a != b), len(first))]
