"""The languages of all peers, as functions, as JSON and as exact answers.

A language draws one token a step; each prefix has a score. What the scores mean, factors of the
target or values of a reward model, is the reader's affair.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llmsmc.models import TabularLanguageModel
from llmsmc.testing.instances import language_with_eos

Prefix = tuple[int, ...]


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        num_tokens: size of the vocabulary, the end included.
        length: most tokens of a sentence.
        eos: the token that ends a sentence; None where all are of full length.
        law: probabilities of the next token after a prefix.
        score: of a prefix with its last token.
    """

    num_tokens: int
    length: int
    eos: int | None
    law: Callable[[Prefix], list[float]]
    score: Callable[[Prefix], float]

    def prefixes(self, prefix: Prefix = ()) -> Iterator[Prefix]:
        """Yield all prefixes that can be reached, the empty one first."""
        yield prefix
        if len(prefix) < self.length and self.eos not in prefix:
            for token, probability in enumerate(self.law(prefix)):
                if probability > 0:
                    yield from self.prefixes((*prefix, token))

    def is_sentence(self, prefix: Prefix) -> bool:
        """Return whether a prefix is complete."""
        return len(prefix) == self.length or self.eos in prefix

    def as_json(self) -> dict[str, Any]:
        """Return the tables that a peer's program reads."""
        reached = list(self.prefixes())
        return {
            "num_tokens": self.num_tokens,
            "length": self.length,
            "eos": self.eos,
            "law": {key(p): self.law(p) for p in reached if not self.is_sentence(p)},
            "score": {key(p): self.score(p) for p in reached if p},
        }

    def model(self) -> TabularLanguageModel:
        """Return the language as a model whose potentials are the scores."""
        return TabularLanguageModel.from_functions(
            self.num_tokens,
            self.length,
            next_token=self.law,
            potential=self.score,
            eos=self.eos,
        )

    def target(self, weight: Callable[[list[float]], float]) -> dict[str, float]:
        """Return the law of sentences weighed by a function of the scores of their prefixes."""
        masses = {}
        for sentence in filter(self.is_sentence, self.prefixes()):
            steps = range(1, len(sentence) + 1)
            probability = math.prod(self.law(sentence[: t - 1])[sentence[t - 1]] for t in steps)
            masses[key(sentence)] = probability * weight([self.score(sentence[:t]) for t in steps])
        total = sum(masses.values())
        return {sentence: mass / total for sentence, mass in masses.items()}


def key(prefix: Prefix) -> str:
    """Return a prefix as a key of JSON."""
    return " ".join(map(str, prefix))


def odds(score: float) -> float:
    """Return the odds of a probability."""
    return score / (1 - score)


TARGETS: dict[str, Callable[[list[float]], float]] = {
    "last score": lambda scores: scores[-1],
    "last odds": lambda scores: odds(scores[-1]),
    "product of scores": math.prod,
    "product of odds": lambda scores: math.prod(map(odds, scores)),
}
"""The possible targets of a filter of steps with scores in (0, 1)."""


def independent_steps() -> Language:
    """Return the language of three independent steps of six tokens: Z = .46 ** 3."""
    return Language(
        6,
        3,
        None,
        lambda prefix: [0.4, 0.25, 0.15, 0.1, 0.06, 0.04],
        lambda prefix: (0.05, 0.2, 0.4, 0.8, 1.5, 4.0)[prefix[-1]],
    )


def early_stopper(length: int) -> Language:
    """Return a language: one token ends at once, the other after `length` steps; scores .6, .5."""
    return Language(
        2,
        length,
        0,
        lambda prefix: [0.0, 1.0] if prefix else [0.5, 0.5],
        lambda prefix: 0.6 if prefix[0] == 0 else 0.5,
    )


def ragged_sentences() -> Language:
    """Return a language of two words and an end, Z = 6.904838; unended texts weigh nothing."""
    table = language_with_eos()
    law = [step.exp() for step in table.log_transitions]
    factors = [step.exp() for step in table.log_potentials]

    def number(prefix: Prefix) -> int:
        return sum(token * 3**place for place, token in enumerate(reversed(prefix)))

    return Language(
        3,
        4,
        2,
        lambda prefix: law[len(prefix)][number(prefix)].tolist(),
        lambda prefix: float(factors[len(prefix) - 1][number(prefix)]),
    )
