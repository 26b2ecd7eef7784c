"""The thinking of a policy, compiled for its tokens: where steps begin, which tokens are forced."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.models.policies.decoding.requests import TokenScores
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.models.text.stopping import StepRule, step_rule
from llmsmc.models.text.thinking import ForcedTokens, Thinking, ThinkingAutomaton, ThinkingRule

Steps = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class CompiledThinking:
    """The settings of `Thinking` for one policy, whose prompts leave the thinking open.

    Attributes:
        thinking: the settings.
        rule: the rule that ends a step.
        forced_ids: the tokens that close the thinking when the budget is used up; empty without
            a budget.
        policy: the language model.
    """

    thinking: Thinking
    rule: ThinkingRule
    forced_ids: tuple[int, ...]
    policy: Policy

    @property
    def automaton(self) -> ThinkingAutomaton:
        """The rule compiled for the policy."""
        automaton = self.policy.tokens.automaton(self.rule)
        assert isinstance(automaton, ThinkingAutomaton)
        return automaton

    def step(self, particles: ReasoningParticles) -> tuple[Tensor, ForcedTokens | None]:
        """Return the automaton states at which steps begin, and the tokens that are forced."""
        is_open, lengths = self._is_open(particles.steps), particles.num_tokens
        automaton, budget = self.automaton, self.thinking.max_tokens
        starts = automaton.starts(is_open)
        if automaton.resumes:
            starts = automaton.behind(particles.token_ids, lengths)
        if budget is None:
            return starts, None
        return starts, ForcedTokens.behind(budget, self.forced_ids, lengths, is_open)

    def without_forced(self, scores: TokenScores, starts: Tensor, steps: Steps) -> TokenScores:
        """Return the scores of one step, in which forced tokens have probability one."""
        budget = self.thinking.max_tokens
        if budget is None:
            return scores
        places = starts[:, None] + torch.arange(scores.log_probs.shape[1])
        forced = self._is_open(steps)[:, None] & (places >= budget)
        return replace(
            scores,
            log_probs=scores.log_probs.masked_fill(forced, 0.0),
            tempered_log_probs=scores.tempered_log_probs.masked_fill(forced, 0.0),
        )

    def certain_where_forced(self, particles: ReasoningParticles) -> ReasoningParticles:
        """Return whole solutions, in which forced tokens have probability one."""
        if self.thinking.max_tokens is None:
            return particles
        forced = self._is_forced(particles)
        return replace(
            particles,
            log_probs=particles.log_probs.masked_fill(forced, 0.0),
            transition_log_probs=particles.transition_log_probs.masked_fill(forced, 0.0),
            proposal_log_probs=particles.proposal_log_probs.masked_fill(forced, 0.0),
        )

    def are_possible(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions are closed by force where they have to be."""
        budget = self.thinking.max_tokens
        if budget is None:
            return torch.ones(len(particles), dtype=torch.bool)
        ids, final = particles.token_ids, len(self.forced_ids) - 1
        places = torch.arange(ids.shape[1]) - budget
        due = torch.tensor(self.forced_ids)[places.clamp(0, final)]
        as_due = (ids == due) & (places <= final)
        return ~(self._is_forced(particles) & ~as_due).any(1)

    def _is_forced(self, particles: ReasoningParticles) -> Bool[Tensor, "N L"]:
        """Return which tokens are thinking beyond the budget."""
        assert self.thinking.max_tokens is not None
        lengths = self.automaton.lengths(particles.token_ids, particles.num_tokens)
        places = torch.arange(particles.token_ids.shape[1])
        return (places >= self.thinking.max_tokens) & (places < lengths[:, None])

    def _is_open(self, steps: Steps) -> Bool[Tensor, " N"]:
        closing = self.thinking.closing
        return torch.tensor([closing not in "".join(texts) for texts in steps], dtype=torch.bool)


def compiled_thinking(
    policy: Policy, thinking: Thinking | None, rule: StepRule, prompt_ids: tuple[int, ...]
) -> CompiledThinking | None:
    """Return the thinking of a policy, None where the prompt has closed it already.

    Raises:
        InputError: the policy does not show the closing tag, or cannot write it.
    """
    if thinking is None or thinking.is_closed_by(policy.tokens.decode(prompt_ids)):
        return None
    if thinking.closing in policy.tokens.special:
        raise InputError(
            "The tag that closes the thinking is part of the text. Got "
            f"{thinking.closing!r}, which is a special token of {policy.name} and left out of "
            "texts; accepted: a tag that is not."
        )
    inside = rule if thinking.step is None else step_rule(thinking.step)
    joint = ThinkingRule(inside, rule, thinking.closing)
    forced: tuple[int, ...] = ()
    if thinking.max_tokens is not None:
        forced = policy.tokens.encode(thinking.forced_text)
        automaton = policy.tokens.automaton(joint)
        assert isinstance(automaton, ThinkingAutomaton)
        states, closes = automaton.closing.start(1), list[bool]()
        for token_id in forced:
            states = automaton.closing.advance(states, states.new_tensor([token_id]))
            closes.append(bool(automaton.closing.complete(states)[0]))
        if not closes or not closes[-1] or any(closes[:-1]):
            raise InputError(
                f"{policy.name} cannot close its thinking. Got {thinking.forced_text!r}, whose "
                "tokens do not end with the tag; accepted: a text that it can write."
            )
    return CompiledThinking(thinking, joint, forced, policy)
