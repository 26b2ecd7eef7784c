"""How a language model writes steps behind solutions, and what it says of those of others."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.models.caches.row_cache import CacheRows
from llmsmc.models.policies.decoding.requests import (
    ScoreRequest,
    StepRequest,
    StepTokens,
    TokenScores,
    UniformTable,
)
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.compiled_thinking import Thoughts
from llmsmc.models.reasoning.finish_reasons import Endings
from llmsmc.models.reasoning.particles import (
    MAX_STEPS,
    NO_STEP,
    UNFINISHED,
    ReasoningParticles,
    appended,
)
from llmsmc.models.reasoning.step_texts import told
from llmsmc.models.text.constraint import Constraint
from llmsmc.models.text.stopping import StepRule


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

        num_tokens, num_told = lengths + counts, particles.num_transitions
        longer = replace(
            particles,
            token_ids=put(particles.token_ids, drawn.token_ids),
            num_tokens=num_tokens,
            transition_ends=appended(
                particles.transition_ends,
                num_told,
                num_tokens[:, None],
                torch.ones_like(num_told),
                NO_STEP,
            ),
            log_probs=put(particles.log_probs, log_probs),
            transition_log_probs=put(particles.transition_log_probs, transition),
            proposal_log_probs=put(particles.proposal_log_probs, drawn.proposal_log_probs),
        )
        longer = told(longer, particles.num_steps, num_told, self.policy)
        codes = self.endings.codes(t, longer.steps, drawn.stop_reasons)
        # Those that are cut off by max_steps would go on in a longer run.
        going_on = (codes == UNFINISHED) | (codes == MAX_STEPS)
        return replace(
            longer,
            finish_codes=codes,
            policy_memory=(drawn if scores is None else scores).memory.keep(going_on),
            proposal_memory=None if scores is None else drawn.memory.keep(going_on),
        )
