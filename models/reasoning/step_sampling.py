"""The steps of solutions: how a language model writes them, their texts, and why solutions finish.

A step is what one transition writes: one token or more, up to where the rule of steps says that it
is complete, the text ends, or a limit truncates it. There is one count of steps, the table
`transition_ends` of the particles, by which solutions are drawn, rewound, spliced and counted
alike. The texts follow from it and from the tokens: a step that is blank of itself (the end of the
text alone, or white space) has no text of its own. It belongs to the text before, or to the next
text where there is none before.

Shapes: N particles, L new tokens.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Generator, Tensor
from torch.nn.functional import pad

from llmsmc.core.cost import Cost
from llmsmc.grading.extraction import gives_answer
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import (
    MixedUniforms,
    Readout,
    ScoreRequest,
    StepRequest,
    StepTokens,
    TokenScores,
    UniformTable,
)
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.compiled_thinking import CompiledThinking
from llmsmc.models.reasoning.particles import (
    ANSWER,
    EOS,
    FAILED,
    LENGTH,
    MAX_STEPS,
    NO_STEP,
    UNFINISHED,
    ReasoningParticles,
    answer_text,
    appended,
    concatenate,
)
from llmsmc.models.reasoning.scores import StepScores
from llmsmc.models.reasoning.writing_on import Ahead, next_uniforms
from llmsmc.models.rewards.reward import Steps
from llmsmc.models.text import stopping
from llmsmc.models.text.constraint import Constraint
from llmsmc.models.text.stopping import StepRule

BOX: Final = "box"  # a part of every command around an answer; most texts have none


@dataclass(frozen=True, eq=False)
class FinishReasons:
    r"""What ends the solutions of a question.

    Attributes:
        stop_at_answer: whether a solution is complete with the step in which it gives its answer
            in ``\boxed{...}``; a box that is only mentioned does not end it.
        max_steps: number of steps after which solutions are truncated.
        room: how many tokens a solution can have.
        thinking_end: the tag behind which solutions answer; None where all of them is the answer.
        scores: the reward, which a solution can outgrow: it is truncated there; None for no reward.
    """

    stop_at_answer: bool
    max_steps: int | None
    room: int
    thinking_end: str | None
    scores: StepScores | None

    def codes(
        self,
        t: int,
        steps: tuple[Steps, ...],
        stop_reasons: Int64[Tensor, " N"],
        reward_room: Int64[Tensor, " N"] | None = None,
    ) -> Int64[Tensor, " N"]:
        """Return why solutions are not extended after step t, of which each has a stop reason."""
        going_on = MAX_STEPS if self.is_last(t) else UNFINISHED
        reasons = stop_reasons.tolist()
        room = [0] * len(steps) if reward_room is None else reward_room.tolist()
        codes = list[int]()
        for texts, reason, left in zip(steps, reasons, room, strict=True):
            if reason == stopping.FAILED:
                codes.append(FAILED)
            elif left < 0:
                codes.append(LENGTH)
            elif reason == stopping.EOS:
                codes.append(EOS)
            elif self.stop_at_answer and BOX in "".join(texts) and self.has_answer(texts):
                codes.append(ANSWER)
            else:
                codes.append(LENGTH if reason == stopping.LENGTH else going_on)
        return torch.tensor(codes, dtype=torch.long)

    def is_last(self, t: int) -> bool:
        """Return whether solutions that go on after step t are truncated there."""
        return self.max_steps is not None and t + 1 >= self.max_steps

    def has_answer(self, steps: Steps) -> bool:
        """Return whether the steps give an answer, outside of thinking."""
        return gives_answer(answer_text("".join(steps), self.thinking_end))

    def has_outgrown(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions the reward has no room for."""
        if self.scores is None:
            return torch.zeros(len(particles), dtype=torch.bool)
        room = particles.reward_room
        return (self.scores.room(particles.steps) if room is None else room) < 0


@dataclass(frozen=True, eq=False)
class StepSampler:
    """The steps of solutions of one question.

    Attributes:
        policy: the language model whose law the transition is.
        proposal_policy: the language model from which guided steps are drawn; None for the policy.
        constraint: what must not occur in guided steps.
        prompt_ids: the tokens of the prompt.
        rule: the rule that ends a step.
        thinking: the compiled settings of thinking; None where there is none.
        max_tokens_per_step: number of tokens at which a step, and with it the solution, is
            truncated.
        max_tokens: number of tokens at which the whole solution is truncated.
        finish_reasons: what ends a solution.
        readout: what the reward reads of the policy while it writes; None for nothing.
        writes_on: whether particles begin the next step while others finish theirs.
    """

    policy: Policy
    proposal_policy: Policy | None
    constraint: Constraint | None
    prompt_ids: tuple[int, ...]
    rule: StepRule
    thinking: CompiledThinking | None
    max_tokens_per_step: int
    max_tokens: int | None
    finish_reasons: FinishReasons
    readout: Readout | None = None
    writes_on: bool = False

    def step(
        self,
        t: int,
        previous: ReasoningParticles,
        temperature: float | int,
        generator: Generator | None,
        *,
        is_guided: bool = False,
    ) -> tuple[ReasoningParticles, Float64[Tensor, " N"], Cost]:
        """Append one step to each unfinished solution; consumes `generator`.

        A guided step is drawn from the allowed tokens of the policy, or from the proposal; the
        policy scores a proposal in one pass. What ends a step is a function of its tokens, and
        cancels in the ratio.

        Returns:
            The solutions, `[N]` the log of transition over proposal probability of each step, and
            the cost.

        Raises:
            ServerError: a server could not go on with any of the solutions.
        """
        log_ratio = torch.zeros(len(previous), dtype=torch.float64)
        rows = (~previous.finished).nonzero().squeeze(1)
        if not len(rows):
            return previous, log_ratio, Cost()
        active, uniforms, starts, forced = previous[rows], None, None, None
        if generator is not None and (temperature > 0 or is_guided):
            uniforms = UniformTable(len(previous), generator)
        if self.thinking is not None:
            starts, forced = self.thinking.step(active)
        source, handle, is_proposed = self.policy, active.policy_cache, False
        if is_guided and self.proposal_policy is not None:
            source, handle, is_proposed = self.proposal_policy, active.proposal_cache, True
        request = StepRequest(
            self.prompt_ids,
            active.token_ids,
            active.num_tokens,
            handle or CacheRows.none(len(active)),
            rule=self.rule,
            max_tokens=self.max_tokens_per_step,
            max_total_tokens=self.max_tokens,
            temperature=temperature,
            uniforms=uniforms,
            particles=rows,
            step=t,
            constraint=self.constraint if is_guided else None,
            starts=starts,
            forced=forced,
            readout=None if is_proposed else self.readout,
        )
        ahead = None
        if self.writes_on and not is_guided and temperature > 0 and generator is not None:
            ahead = Ahead(self, next_uniforms(len(previous), generator), rows)
            if active.ahead is not None and active.ahead.sampler is self:
                request = taken_up(request, active.ahead.claim(request.handle), len(previous))
            if not self.finish_reasons.is_last(t):
                request = replace(request, ahead=ahead.uniforms)
        drawn, cost = source.sample_step(request)
        scores, transition_log_probs = None, drawn.transition_log_probs
        if is_proposed and int(drawn.num_tokens.sum()):
            lengths, counts = active.num_tokens, drawn.num_tokens
            token_ids = appended(active.token_ids, lengths, drawn.token_ids, counts)
            scores, spent = self.scores_behind(active, token_ids, lengths + counts, temperature)
            cost += spent
            if self.thinking is not None:
                scores = self.thinking.without_forced(scores, lengths, active.steps)
            transition_log_probs = scores.tempered_log_probs
        if is_guided:
            log_ratio[rows] = (transition_log_probs - drawn.proposal_log_probs).sum(1)
        extended = self.extended(t, active, drawn, scores)
        if ahead is not None:
            numbers = rows.masked_fill(extended.finished, -1)
            extended = replace(extended, ahead=replace(ahead, rows=numbers, begun=drawn.begun))
        if len(rows) < len(previous):
            extended = among_finished(extended, rows, previous)
        if drawn.error is not None and bool(extended.failed.all()):
            raise drawn.error
        return extended, log_ratio, cost

    def scores_behind(
        self,
        prefixes: ReasoningParticles,
        token_ids: Tensor,
        num_tokens: Tensor,
        temperature: float | int,
    ) -> tuple[TokenScores, Cost]:
        """Return the policy's log-probabilities of the tokens behind each of the prefixes."""
        return self.policy.score_tokens(
            ScoreRequest(
                self.prompt_ids,
                token_ids,
                num_tokens,
                prefixes.num_tokens,
                prefixes.policy_cache or CacheRows.none(len(prefixes)),
                temperature,
                self.readout,
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
        new: dict[str, Tensor] = {
            "token_ids": drawn.token_ids,
            "log_probs": log_probs,
            "transition_log_probs": transition,
            "proposal_log_probs": drawn.proposal_log_probs,
        }
        columns: dict[str, Any] = {
            name: appended(getattr(particles, name), lengths, rows, counts)
            for name, rows in new.items()
        }
        read = (drawn if scores is None else scores).features
        if read is not None:
            columns["features"] = with_features(particles, lengths, read, counts)
        num_tokens, num_steps = lengths + counts, particles.num_transitions
        one, ends = torch.ones_like(num_steps), particles.transition_ends
        ends = appended(ends, num_steps, num_tokens[:, None], one, NO_STEP)
        longer = replace(particles, num_tokens=num_tokens, transition_ends=ends, **columns)
        longer = with_texts(longer, particles.num_steps, num_steps, self.policy)
        rewards, room = self.finish_reasons.scores, None
        if rewards is not None:
            room = rewards.room(longer.steps, particles)
        codes = self.finish_reasons.codes(t, longer.steps, drawn.stop_reasons, room)
        # Those that are truncated by max_steps would go on in a longer run.
        going_on = (codes == UNFINISHED) | (codes == MAX_STEPS)
        extended = replace(
            longer,
            finish_codes=codes,
            reward_room=room,
            policy_cache=(drawn if scores is None else scores).handle.keep(going_on),
            proposal_cache=None if scores is None else drawn.handle.keep(going_on),
        )
        if rewards is not None and bool((extended.num_scored < particles.num_scored).any()):
            return rewards.rewound(particles, extended)
        return extended


def taken_up(request: StepRequest, ahead: Ahead, num_particles: int) -> StepRequest:
    """Return the request for a step of which something is drawn already.

    Args:
        request: what would be asked for without it.
        ahead: what is handed over to its B particles.
        num_particles: the number of particles in the table of uniform numbers.
    """
    assert request.uniforms is not None
    claimed = torch.full((num_particles,), -1)
    claimed[request.numbers] = ahead.rows
    request = replace(request, uniforms=MixedUniforms(request.uniforms, ahead.uniforms, claimed))
    begun, handle, lengths = ahead.begun, request.handle, request.num_tokens
    if begun is None:
        return request
    return replace(
        request,
        token_ids=appended(request.token_ids, lengths, begun.token_ids, begun.num_tokens),
        num_tokens=lengths + begun.num_tokens,
        handle=replace(handle, lengths=handle.lengths + begun.num_tokens),
        begun=begun,
    )


def with_features(
    particles: ReasoningParticles,
    lengths: Int64[Tensor, " N"],
    features: Float[Tensor, "N M F"],
    counts: Int64[Tensor, " N"],
) -> Float[Tensor, "N L F"]:
    """Return the features of the particles with those of new tokens behind the first `lengths`."""
    before = particles.features
    if before is None:
        shape = len(particles), particles.token_ids.shape[1], features.shape[2]
        before = features.new_full(shape, torch.nan)
    return appended(before, lengths, features, counts, torch.nan)


def among_finished(
    extended: ReasoningParticles, rows: Tensor, previous: ReasoningParticles
) -> ReasoningParticles:
    """Put the extended particles in their places among those that had finished."""
    rest = previous.finished.nonzero().squeeze(1)
    return concatenate([extended, previous[rest]])[torch.cat([rows, rest]).argsort()]


def with_texts(
    particles: ReasoningParticles,
    num_texts: Int64[Tensor, " N"],
    num_steps: Int64[Tensor, " N"],
    policy: Policy,
) -> ReasoningParticles:
    """Return the particles with the texts of their steps, decoded from their tokens.

    A text keeps its score until it changes, or one before it does.

    Args:
        particles: the particles, with new tokens and steps and the old texts and scores.
        num_texts: how many of these texts are unchanged.
        num_steps: the number of steps to which these texts belong; later steps are decoded.
        policy: the language model whose tokens they are.
    """
    rows, old_ends = particles.token_ids.tolist(), particles.step_ends.tolist()
    transitions, counts = particles.transition_ends.tolist(), particles.num_transitions.tolist()
    steps, ends, num_same = list[tuple[str, ...]](), list[list[int]](), list[int]()
    for n, (known, first) in enumerate(zip(num_texts.tolist(), num_steps.tolist(), strict=True)):
        old, ids = particles.steps[n], rows[n]
        texts, stops = list(old[:known]), old_ends[n][:known]
        for stop in transitions[n][first : counts[n]]:
            start = stops[-1] if stops else 0
            text = policy.tokens.decode(ids[start:stop], after=ids[:start])
            if text.strip():
                texts.append(text)
                stops.append(stop)
            elif texts:
                texts[-1] += text
                stops[-1] = stop
        same = max(0, known - 1)
        while same < min(len(old), len(texts)) and old[same] == texts[same]:
            same += 1
        steps.append(tuple(texts))
        ends.append(stops)
        num_same.append(same)
    old_width = particles.log_odds.shape[1]
    width = max([old_width, *map(len, ends)])
    places = torch.arange(old_width)
    log_odds = particles.log_odds.where(places < torch.tensor(num_same)[:, None], torch.nan)
    # Where a solution was read as a whole, the texts within have no scores.
    scored = (places < particles.num_scored[:, None]) & ~log_odds.isnan()
    return replace(
        particles,
        steps=tuple(steps),
        step_ends=torch.tensor([stops + [0] * (width - len(stops)) for stops in ends]).long(),
        log_odds=pad(log_odds, (0, width - old_width), value=torch.nan),
        num_scored=pad(scored * (places + 1), (0, 1)).amax(1),
        reward_room=None,
    )
