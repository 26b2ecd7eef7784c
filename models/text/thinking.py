"""Policies that think before they answer: where the thinking ends, and what is done about it.

The text up to and including the closing tag is the thinking, whether the tag that opens it stands
in the prompt or is written by the policy; what follows is the answer. The closing tag ends a step.
So that this is a function of the tokens of the step alone, no step ends within a tag: one that
would goes on to the tag's end, or until it turns out to be none.

With a budget, the law of the policy is changed: behind `max_tokens` tokens of thinking that is
still open come the tokens of the closing text, with probability one. This is the transition of the
model, not a proposal that would have to be weighed: those tokens have log-probability zero.

Shapes: B rows, N particles, L generated tokens, F tokens of the closing text.
"""

from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmsmc.core.checks import require_count
from llmsmc.errors import InputError
from llmsmc.models.text.constraint import occurrences
from llmsmc.models.text.stopping import (
    Automaton,
    Resumable,
    StepAutomaton,
    StepRule,
    restarted,
    step_rule,
    tokenwise,
)
from llmsmc.registry import defined_at

_NEVER: Final = 2**60  # more tokens than a text can have


@dataclass(frozen=True)
class Thinking:
    r"""Settings of a policy that thinks before it answers.

    Attributes:
        closing: the tag that ends the thinking; answers are searched for after it.
        opening: the tag that opens the thinking, if the policy or its chat template writes one.
        step: the rule that ends a step of the thinking; None for the rule of other steps.
        max_tokens: the number of tokens after which the thinking is closed by force; None for no
            limit. The steps of the thinking also count for the other limits.
        closing_text: the text that closes it by force, which ends with the closing tag; None for
            the tag alone.
        scored: whether the reward model scores the steps of the thinking, the last of which has the
            closing tag; otherwise it scores the steps of the answer only.
    """

    closing: str = "</think>"
    opening: str = "<think>"
    step: str | int | StepRule | None = None
    max_tokens: int | None = None
    closing_text: str | None = None
    scored: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        for tag in (self.closing, self.opening):
            if not isinstance(tag, str) or not tag.strip():
                raise InputError(
                    f"Thinking stands between two tags. Got {tag!r}; accepted: texts such as "
                    "'</think>'."
                )
        if self.max_tokens is not None:
            require_count("The max_tokens of thinking", self.max_tokens)
        if self.step is not None:
            step_rule(self.step)
        text = self.closing_text
        if text is not None and (text.find(self.closing) != len(text) - len(self.closing)):
            raise InputError(
                f"The text that closes the thinking ends with its tag. Got {text!r}; accepted: a "
                f"text with {self.closing!r} at the end and nowhere else."
            )

    @property
    def forced_text(self) -> str:
        """What is written when the budget is used up."""
        return self.closing if self.closing_text is None else self.closing_text

    def config(self) -> dict[str, Any]:
        """Return the settings as they would stand in a JSON file."""
        step = self.step if isinstance(self.step, str | int | None) else defined_at(self.step)
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"step": step}

    @staticmethod
    def default_config() -> dict[str, Any]:
        """Return those of them that have a default."""
        return {each.name: each.default for each in fields(Thinking) if each.default is not MISSING}

    def is_closed_by(self, prompt: str) -> bool:
        """Return whether a prompt has closed the thinking already, so that there is none."""
        return prompt.rfind(self.closing) > prompt.rfind(self.opening)


@dataclass(frozen=True)
class ThinkingRule:
    """One rule for the steps of the thinking, which its closing tag ends too, and one behind it."""

    inside: StepRule
    outside: StepRule
    closing: str

    def automaton(self, pieces: list[bytes]) -> "ThinkingAutomaton":
        """Return the automaton: both rules, and a search for the tag, side by side."""
        tag = occurrences([self.closing.encode()])
        return ThinkingAutomaton(
            self.inside.automaton(pieces),
            self.outside.automaton(pieces),
            StepAutomaton(tokenwise(tag, pieces), accept=len(tag) - 1),
        )


@dataclass(frozen=True, eq=False)
class ThinkingAutomaton:
    """The three automata, whose states are packed into one number.

    It is made of the state of the rule, that of the tag, and whether the step began within the
    thinking.
    """

    inside: Automaton
    outside: Automaton
    closing: StepAutomaton

    @property
    def vocab_size(self) -> int:
        """Number of ids that it knows."""
        return self.closing.vocab_size

    def start(self, num_rows: int) -> Int[Tensor, " B"]:
        """Return the states at the start of a step of the thinking."""
        device = self.closing.table.device
        return self.starts(torch.ones(num_rows, dtype=torch.bool, device=device))

    def starts(self, is_open: Bool[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states at the start of a step, within the thinking or behind it."""
        is_open = is_open.to(self.closing.table.device)
        num_rows = len(is_open)
        rule = torch.where(is_open, self.inside.start(num_rows), self.outside.start(num_rows))
        return self._packed(rule, torch.where(is_open, 0, self.closing.accept), is_open)

    def advance(self, states: Int[Tensor, " B"], ids: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states after one more token in each row."""
        rule, tag, is_open = self._parts(states)
        inside = self.inside.advance(torch.where(is_open, rule, 0), ids)
        outside = self.outside.advance(torch.where(is_open, 0, rule), ids)
        rule = torch.where(is_open, inside, outside)
        return self._packed(rule, self.closing.advance(tag, ids), is_open)

    def complete(self, states: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """Return which steps are complete."""
        rule, tag, is_open = self._parts(states)
        inside = self.inside.complete(torch.where(is_open, rule, 0)) & (tag == 0)
        outside = self.outside.complete(torch.where(is_open, 0, rule))
        return torch.where(is_open, inside | self.closing.complete(tag), outside)

    def to(self, device: torch.device) -> "ThinkingAutomaton":
        """Return the automaton with its tables on `device`."""
        return ThinkingAutomaton(
            self.inside.to(device), self.outside.to(device), self.closing.to(device)
        )

    def lengths(
        self, token_ids: Int[Tensor, "N L"], num_tokens: Int[Tensor, " N"]
    ) -> Int[Tensor, " N"]:
        """Return how many tokens of each text are thinking: all, where it is not closed."""
        device = self.closing.table.device
        states, lengths = self.closing.start(len(token_ids)), num_tokens.clone().to(device)
        for position, ids in enumerate(token_ids.to(device).T):
            following = self.closing.advance(states, ids)
            closes = self.closing.complete(following) & ~self.closing.complete(states)
            lengths = torch.where(closes, lengths.clamp(max=position + 1), lengths)
            states = following
        return lengths.cpu()

    @property
    def resumes(self) -> bool:
        """Whether a step begins in a state that depends on more than whether the tag is there."""
        return isinstance(self.inside, Resumable) or isinstance(self.outside, Resumable)

    def restart(self, states: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the states at the start of the next step, given those at the end of one."""
        rule, tag, was_open = self._parts(states)
        is_open = tag != self.closing.accept
        fresh = self.starts(is_open)
        if not self.resumes:
            return fresh
        inside = restarted(self.inside, torch.where(was_open, rule, 0))
        outside = restarted(self.outside, torch.where(was_open, 0, rule))
        same = torch.where(is_open, inside, outside)
        rule = torch.where(is_open == was_open, same, self._parts(fresh)[0])
        return self._packed(rule, torch.where(is_open, 0, self.closing.accept), is_open)

    def behind(
        self, token_ids: Int[Tensor, "B L"], num_tokens: Int[Tensor, " B"]
    ) -> Int[Tensor, " B"]:
        """Return the states at the start of a step behind the tokens of each row."""
        device = self.closing.table.device
        states, counts = self.start(len(token_ids)), num_tokens.to(device)
        for position, ids in enumerate(token_ids.to(device).T):
            following = self.advance(states, ids)
            following = torch.where(self.complete(following), self.restart(following), following)
            states = torch.where(counts > position, following, states)
        return self.restart(states)

    def _packed(self, rule: Tensor, tag: Tensor, is_open: Tensor) -> Int[Tensor, " B"]:
        return (rule * len(self.closing.table) + tag) * 2 + is_open

    def _parts(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states of the rule and of the tag, and where the thinking was open."""
        num_tags = len(self.closing.table)
        pairs = states // 2
        return pairs // num_tags, pairs % num_tags, (states % 2).bool()


@dataclass(frozen=True, eq=False)
class ForcedTokens:
    """Tokens that stand at fixed places of a step, whatever the law says.

    Attributes:
        token_ids: the tokens.
        starts: for each row, the number of tokens of the step before the first of them; below zero
            where some stand in earlier steps already.
    """

    token_ids: tuple[int, ...]
    starts: Int[Tensor, " B"]

    @classmethod
    def behind(
        cls, budget: int, token_ids: tuple[int, ...], lengths: Tensor, is_open: Tensor
    ) -> "ForcedTokens":
        """Return what follows `budget` tokens, where texts of these lengths are still thinking."""
        return cls(token_ids, torch.where(is_open, budget - lengths, _NEVER))


def put_forced(
    token_ids: tuple[int, ...],
    places: Int[Tensor, " A"],
    ids: Int[Tensor, " A"],
    log_probs: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Return what has been drawn, with the forced tokens in the place of it.

    Their log-probabilities are zero.

    Args:
        token_ids: the tokens.
        places: which of them it is the turn of; those that there are not force nothing.
        ids: the tokens drawn.
        log_probs: of these.
    """
    is_forced = (places >= 0) & (places < len(token_ids))
    due = torch.tensor(token_ids, device=ids.device)[places.clamp(0, len(token_ids) - 1)]
    kept = [values.masked_fill(is_forced, 0.0) for values in log_probs]
    return torch.where(is_forced, due, ids), kept
