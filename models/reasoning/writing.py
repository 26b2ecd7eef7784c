"""How a language model writes steps behind solutions, and what it says of those of others."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llmsmc.cost import Cost
from llmsmc.models.caches.cache_rows import CacheRows
from llmsmc.models.policies.constraint import Constraint
from llmsmc.models.policies.policy import Policy
from llmsmc.models.policies.sampling import UniformTable
from llmsmc.models.policies.step_tokens import StepRequest, StepTokens
from llmsmc.models.policies.stopping import StepRule
from llmsmc.models.policies.token_scoring import ScoreRequest, TokenScores
from llmsmc.models.reasoning.endings import Endings
from llmsmc.models.reasoning.particles import (
    MAX_STEPS,
    UNFINISHED,
    ReasoningParticles,
    appended,
    padded,
)
from llmsmc.models.reasoning.thoughts import Thoughts


@dataclass(frozen=True, eq=False)
class Writing:
    """The steps of solutions of one question.

    Attributes:
        policy: the language model whose law the transition is.
        prompt_ids: the tokens of the prompt.
        rule: where a step ends.
        thoughts: what is known of thinking; None where there is none.
        max_tokens_per_step: number of tokens at which a step, and with it the solution, is cut off.
        max_tokens: the same for the whole solution.
        endings: what ends a solution.
    """

    policy: Policy
    prompt_ids: tuple[int, ...]
    rule: StepRule
    thoughts: Thoughts | None
    max_tokens_per_step: int
    max_tokens: int | None
    endings: Endings

    def drawn(
        self,
        t: int,
        source: Policy,
        active: ReasoningParticles,
        memory: CacheRows | None,
        rows: Tensor,
        uniforms: UniformTable | None,
        temperature: float | int,
        constraint: Constraint | None = None,
    ) -> tuple[StepTokens, Cost]:
        """Draw the tokens of one step of each of the particles number `rows`, from `source`."""
        starts, forced = None, None
        if self.thoughts is not None:
            starts, forced = self.thoughts.step(active.num_tokens, active.steps)
        return source.sample_step(
            StepRequest(
                self.prompt_ids,
                active.token_ids,
                active.num_tokens,
                memory or CacheRows.none(len(active)),
                rule=self.rule,
                max_tokens=self.max_tokens_per_step,
                max_total_tokens=self.max_tokens,
                temperature=temperature,
                uniforms=uniforms,
                particles=rows,
                step=t,
                constraint=constraint,
                starts=starts,
                forced=forced,
            )
        )

    def scores_behind(
        self,
        prefixes: ReasoningParticles,
        token_ids: Tensor,
        num_tokens: Tensor,
        temperature: float | int,
    ) -> tuple[TokenScores, Cost]:
        """Return what the policy says of the tokens that stand behind each of the prefixes."""
        return self.policy.score_tokens(
            ScoreRequest(
                self.prompt_ids,
                token_ids,
                num_tokens,
                prefixes.num_tokens,
                prefixes.policy_memory or CacheRows.none(len(prefixes)),
                temperature,
            )
        )

    def extended(
        self,
        t: int,
        particles: ReasoningParticles,
        drawn: StepTokens,
        scores: TokenScores | None = None,
    ) -> ReasoningParticles:
        """Return the particles with the tokens drawn behind them, as a step of their text.

        With `scores` of the policy, the tokens were drawn from a proposal.
        """
        lengths, counts = particles.num_tokens, drawn.num_tokens
        log_probs, transition = drawn.log_probs, drawn.transition_log_probs
        if scores is not None:
            log_probs, transition = scores.log_probs, scores.tempered_log_probs

        def put(rows: Tensor, new: Tensor) -> Tensor:
            return appended(rows, lengths, new, counts)

        token_ids, num_tokens = put(particles.token_ids, drawn.token_ids), lengths + counts
        steps, step_ends = self._with_new_steps(particles, token_ids, num_tokens)
        codes = self.endings.codes(t, steps, drawn.stop_reasons)
        # Those that are cut off by max_steps would go on in a longer run.
        going_on = (codes == UNFINISHED) | (codes == MAX_STEPS)
        return replace(
            particles,
            token_ids=token_ids,
            num_tokens=num_tokens,
            steps=steps,
            step_ends=step_ends,
            log_odds=padded(particles.log_odds, step_ends.shape[1], torch.nan),
            finish_codes=codes,
            policy_memory=(drawn if scores is None else scores).memory.keep(going_on),
            proposal_memory=None if scores is None else drawn.memory.keep(going_on),
            log_probs=put(particles.log_probs, log_probs),
            transition_log_probs=put(particles.transition_log_probs, transition),
            proposal_log_probs=put(particles.proposal_log_probs, drawn.proposal_log_probs),
        )

    def _with_new_steps(
        self, particles: ReasoningParticles, token_ids: Tensor, num_tokens: Tensor
    ) -> tuple[tuple[tuple[str, ...], ...], Tensor]:
        """Return the texts and the ends of the steps, with what is new as one more step.

        What is blank is no step: it belongs to the one before, or to the one that comes.
        """
        texts: list[tuple[str, ...]] = []
        ends: list[list[int]] = []
        rows, all_ends = token_ids.tolist(), particles.step_ends.tolist()
        for n, count in enumerate(num_tokens.tolist()):
            old = particles.steps[n]
            old_ends = all_ends[n][: len(old)]
            ids = rows[n][:count]
            start = old_ends[-1] if old_ends else 0
            text = self.policy.decode(ids[start:], after=ids[:start])
            if text.strip():
                texts.append((*old, text))
                ends.append([*old_ends, count])
            else:
                texts.append((*old[:-1], old[-1] + text) if old else ())
                ends.append([*old_ends[:-1], count] if old else [])
        width = max(particles.step_ends.shape[1], *(len(row) for row in ends))
        return tuple(texts), torch.tensor(
            [row + [0] * (width - len(row)) for row in ends], dtype=torch.long
        ).reshape(len(ends), width)
