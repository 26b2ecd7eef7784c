r"""Hard constraints on text: what must not occur in it, decided by a finite automaton over tokens.

A constraint is compiled, once for each vocabulary, into a table of the state that follows each
state and token; one of the states means "violated". With $C$ the indicator of not being violated,

$$q(v \mid x) = \frac{p(v \mid x) \, C(xv)}{\sum_u p(u \mid x) \, C(xu)}$$

is the locally optimal proposal of the next token $v$, and the weight of a token drawn from it is
the sum in the denominator, which does not depend on $v$.

Reference: Doucet, Godsill, Andrieu (2000). On sequential Monte Carlo sampling methods for Bayesian
filtering. Proposition 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.models.text.stopping import StepAutomaton, tokenwise


@runtime_checkable
class Constraint(Protocol):
    """Says what must not occur."""

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        """Return the automaton for a vocabulary, given the bytes of each token.

        It accepts where the constraint is violated.
        """
        ...


@dataclass(frozen=True)
class WithoutText:
    """None of some pieces of text occurs, however it may be cut into tokens.

    A piece counts inside longer words too, and as it is spelt: "Apple" is not "apple".
    """

    texts: tuple[str, ...]

    def __init__(self, *texts: str) -> None:
        """Take the texts that must not occur."""
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise InputError(
                f"A constraint names what must not occur. Got {texts!r}; accepted: strings that "
                "are not empty."
            )
        object.__setattr__(self, "texts", texts)

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        """Return the automaton of Aho and Corasick over bytes, read token by token."""
        table = occurrences([text.encode() for text in self.texts])
        return StepAutomaton(tokenwise(table, pieces), accept=len(table) - 1)


@dataclass(frozen=True)
class WithoutTokens:
    """None of some tokens occurs."""

    token_ids: frozenset[int]

    def __init__(self, token_ids: Iterable[int]) -> None:
        """Take the ids that must not occur."""
        object.__setattr__(self, "token_ids", frozenset(token_ids))
        if not self.token_ids or min(self.token_ids) < 0:
            raise InputError(
                f"A constraint names what must not occur. Got {sorted(self.token_ids)}; accepted: "
                "at least one token id, none below 0."
            )

    def automaton(self, pieces: list[bytes]) -> StepAutomaton:
        """Return an automaton with two states: none of them has occurred, or one has."""
        if max(self.token_ids) >= len(pieces):
            raise InputError(
                f"There is no such token. Got the id {max(self.token_ids)}; accepted: ids below "
                f"{len(pieces)}."
            )
        table = torch.zeros((2, len(pieces)), dtype=torch.long)
        table[1] = 1
        table[0, sorted(self.token_ids)] = 1
        return StepAutomaton(table, accept=1)


@dataclass(frozen=True, eq=False)
class TokenMask:
    """A compiled constraint, as it is used while tokens are drawn.

    Attributes:
        automaton: accepts where the constraint is violated.
        allowed: whether a token may follow in a state.
    """

    automaton: StepAutomaton
    allowed: Bool[Tensor, "S V"]

    @classmethod
    def of(cls, automaton: StepAutomaton) -> "TokenMask":
        """Return the mask of an automaton."""
        return cls(automaton, automaton.table != automaton.accept)

    def states(
        self, token_ids: Int[Tensor, "B L"], num_tokens: Int[Tensor, " B"]
    ) -> Int[Tensor, " B"]:
        """Return the state behind the tokens of each row, which are padded on the right."""
        states = self.automaton.start(len(token_ids))
        columns = token_ids.to(states.device).T
        for position, ids in enumerate(columns):
            following = self.automaton.advance(states, ids)
            states = torch.where(num_tokens.to(states.device) > position, following, states)
        return states

    def violated(
        self, token_ids: Int[Tensor, "B L"], num_tokens: Int[Tensor, " B"]
    ) -> Bool[Tensor, " B"]:
        """Return which rows violate the constraint."""
        return self.automaton.complete(self.states(token_ids, num_tokens)).cpu()

    def restrict(
        self, law: Float[Tensor, "R V"], states: Int[Tensor, " R"]
    ) -> Float[Tensor, "R V"]:
        """Return the law of the next token, given as logs, conditioned on what is allowed.

        Where nothing is allowed the law stays as it is: what is drawn then will weigh nothing.
        """
        masked = law.masked_fill(~self.allowed[states], -torch.inf)
        possible = (masked > -torch.inf).any(-1, keepdim=True)
        return torch.where(possible, masked, law).log_softmax(-1)


def occurrences(words: list[bytes]) -> np.ndarray:
    """Return the next state for each state and byte, [S, 256]; the last state: a word has occurred.

    The other states are the proper prefixes of the words, the longest that the text ends with.

    Reference: Aho, Corasick (1975). Efficient string matching.
    """
    prefixes = sorted({word[:size] for word in words for size in range(len(word))}, key=len)
    number = {prefix: state for state, prefix in enumerate(prefixes)}
    table = np.full((len(prefixes) + 1, 256), len(prefixes), dtype=np.int64)
    for prefix, state in number.items():
        for byte in range(256):
            seen = prefix + bytes([byte])
            if not any(seen.endswith(word) for word in words):
                suffixes = (seen[start:] for start in range(len(seen) + 1))
                table[state, byte] = next(number[s] for s in suffixes if s in number)
    return table
