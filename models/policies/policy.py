"""What a language model is to the reasoning model, wherever it runs.

A network in this process, or a server that holds one: each draws the next step of many solutions,
and says how probable its tokens are if it can. What it cannot do it refuses when a model is made,
before a token is drawn.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError
from llmsmc.models.policies.decoding.requests import (
    ScoreRequest,
    StepRequest,
    StepTokens,
    TokenScores,
)
from llmsmc.models.text.stopping import StepRule
from llmsmc.models.text.thinking import Thinking
from llmsmc.models.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Demands:
    """What a run asks of a language model.

    Attributes:
        rule: where a step ends; None if no steps are drawn.
        temperature: at which they are drawn, or at which tokens are scored.
        log_probs: whether the log-probabilities of drawn tokens at temperature 1 are used.
        transition_log_probs: whether those at the temperature are.
        token_scores: whether given tokens are scored.
    """

    rule: StepRule | None = None
    temperature: float | int = 1.0
    log_probs: bool = False
    transition_log_probs: bool = False
    token_scores: bool = False


@runtime_checkable
class Policy(Protocol):
    """Draws and scores steps."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def quantization(self) -> str | None:
        """How its weights are quantised, as far as is known here."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of this process that it uses."""
        ...

    @property
    def context_length(self) -> int:
        """How many tokens the prompt and the answer may have together."""
        ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The ids that end a text."""
        ...

    @property
    def masks(self) -> bool:
        """Whether it can draw from what a constraint leaves of its law."""
        ...

    @property
    def whole_answers_only(self) -> bool:
        """Whether it cannot continue an answer, so that a step is a whole one."""
        ...

    @property
    def tokens(self) -> Vocabulary:
        """The tokens that it reads and writes."""
        ...

    def check(self, demands: Demands) -> None:
        """Raise `InputError`, which names what is missing, if it cannot do what is asked."""
        ...

    def prompt_ids(
        self, question: str, system: str | None = None, thinking: Thinking | None = None
    ) -> tuple[int, ...]:
        """Return the ids of the prompt that asks the question."""
        ...

    def sample_step(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        """Draw one step for each of B particles, and tell what it has cost."""
        ...

    def score_tokens(self, request: ScoreRequest) -> tuple[TokenScores, Cost]:
        """Score given tokens of B particles, and tell what it has cost.

        In the answer the first token that is scored stands first.
        """
        ...


def require_same_tokens(policy: Policy, other: Policy) -> None:
    """Raise `InputError` unless both write the same tokens."""
    if policy.tokens.ids != other.tokens.ids or policy.eos_ids != other.eos_ids:
        raise InputError(
            "A proposal writes the tokens that the policy scores. Got "
            f"{other.name} beside {policy.name}, with another vocabulary; accepted: language "
            "models with the same tokens."
        )
