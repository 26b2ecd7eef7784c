"""Training text: problems with solutions, exact or with misconceptions, cut into batches.

Batches are small (about 2,000 tokens): with models of this size the number of updates
matters more than the number of tokens in one. Problems come in pools; a pool is sorted by
length before it is cut, so that little is padding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llmsmc.models.minimath.datasets import TRAIN, set_of
from llmsmc.models.minimath.families import FAMILIES
from llmsmc.models.minimath.problem import STEP_SEPARATOR, Problem, draw_problem
from llmsmc.models.minimath.world.arithmetic import Exact, Misconceived, Rates

IGNORED = -100
"""Label of a token that carries no loss, as in torch and transformers."""

BATCHES_IN_A_POOL = 16


Example = tuple[list[int], ...]
"""Token ids of one sequence, then its labels of one or several kinds, all of equal length."""


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences.

    Attributes:
        token_ids: [B, L], int64.
        labels: for each kind of label [B, L], int64; `IGNORED` where there is no loss.
    """

    token_ids: Tensor
    labels: tuple[Tensor, ...]


@dataclass(frozen=True)
class Mixture:
    """A mixture of problems, which changes as the training advances.

    Attributes:
        drills: share of one-step problems at the start; it falls to a quarter of that, linearly,
            over the first third of the training.
        levels: weights of the levels 1 to 5 among the others.
        misconceived: share of solutions with misconceptions, constant.
        families: drawn from evenly; one that is named twice comes twice as often.
    """

    drills: float = 0.6
    levels: tuple[float, ...] = (0.15, 0.2, 0.25, 0.2, 0.2)
    misconceived: float = 0.0
    families: tuple[str, ...] = tuple(sorted(FAMILIES))

    def draw(self, random: Random, progress: float) -> Problem:
        """Draw a training problem at a stage of the training, from 0.0 to 1.0."""
        while True:
            problem = self._draw(random, progress)
            if set_of(problem.question) == TRAIN:
                return problem

    def _draw(self, random: Random, progress: float) -> Problem:
        drills = self.drills * max(0.25, 1 - 0.75 * progress * 3)
        if random.random() < drills:
            family = random.choice(self.families)
            return Problem("", family, 1, FAMILIES[family](random, 1))
        level = random.choices((1, 2, 3, 4, 5), self.levels)[0]
        return draw_problem(random, level, family=random.choice(self.families))


def policy_examples(
    tokenizer: PreTrainedTokenizerBase, mixture: Mixture, rates: Rates
) -> Callable[[Random, float], Example]:
    """Return a draw of examples for a policy: the chat prompt, then a solution with the loss."""

    def draw(random: Random, progress: float) -> Example:
        problem = mixture.draw(random, progress)
        goes_wrong = random.random() < mixture.misconceived
        calculator = Misconceived(random, rates) if goes_wrong else Exact()
        prompt = prompt_ids(tokenizer, problem.question)
        solution = STEP_SEPARATOR.join(problem.solution(calculator))
        answer = [*encode(tokenizer, solution), tokenizer.eos_token_id]
        return prompt + answer, [IGNORED] * len(prompt) + answer

    return draw


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text, without special tokens."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Return the id of one token of the vocabulary."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, question: str, system: str | None = None
) -> list[int]:
    """Return the token ids of the rendered chat up to the beginning of the answer."""
    messages = [{"role": "user", "content": question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return encode(tokenizer, str(text))


@dataclass
class Batches:
    """Batches by number of update: the same number gives the same batch, in any run.

    Attributes:
        draw: draws an example, given the progress of the training.
        seed: the name of the stream of problems.
        num_updates: the length of the training.
        num_tokens: tokens in a batch, about.
    """

    draw: Callable[[Random, float], Example]
    seed: str
    num_updates: int
    num_tokens: int = 2000

    def __post_init__(self) -> None:
        """Keep two pools at most."""
        self._pool = lru_cache(maxsize=2)(self._make_pool)

    def __getitem__(self, update: int) -> Batch:
        """Return the batch of an update."""
        return self._pool(update // BATCHES_IN_A_POOL)[update % BATCHES_IN_A_POOL]

    def _make_pool(self, number: int) -> list[Batch]:
        random = Random(f"{self.seed}/{number}")
        progress = number * BATCHES_IN_A_POOL / self.num_updates
        examples: list[Example] = []
        budget = BATCHES_IN_A_POOL * self.num_tokens
        while budget > 0:
            example = self.draw(random, progress)
            examples.append(example)
            budget -= len(example[0])
        examples.sort(key=lambda example: len(example[0]))
        groups: list[list[Example]] = [[] for _ in range(BATCHES_IN_A_POOL)]
        tokens = 0
        for example in examples:
            group = min(tokens // self.num_tokens, BATCHES_IN_A_POOL - 1)
            groups[group].append(example)
            tokens += len(example[0])
        batches = [collate(group) for group in groups if group]
        random.shuffle(batches)
        while len(batches) < BATCHES_IN_A_POOL:  # one example filled several groups
            batches.append(batches[0])
        return batches


def collate(examples: list[Example]) -> Batch:
    """Return a batch, padded on the right, for which causal attention needs no mask."""
    length = max(len(example[0]) for example in examples)
    token_ids, *labels = (
        torch.tensor([row + [filler] * (length - len(row)) for row in rows])
        for rows, filler in zip(
            zip(*examples, strict=True), [0] + [IGNORED] * len(examples[0]), strict=False
        )
    )
    return Batch(token_ids, tuple(labels))
