"""The scores of solutions by a reward and by an expert: each step and token is scored once.

Shapes: N particles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.models.caches.rows import CacheRows, join
from llmsmc.models.policies.decoding.requests import Readout, ScoreRequest
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import (
    ANSWER,
    EOS,
    FAILED,
    MAX_STEPS,
    UNFINISHED,
    ReasoningParticles,
    answer_steps,
    appended,
    padded,
)
from llmsmc.models.rewards.aggregation import Aggregation
from llmsmc.models.rewards.reward import (
    READINGS,
    MeasuredReward,
    Reading,
    Reward,
    Solution,
    Steps,
    Written,
    scores_and_failures,
)


@dataclass(frozen=True, eq=False)
class StepScores:
    """A reward that reads solutions of one question.

    Attributes:
        reward: the reward.
        question: the question.
        aggregation: how the scores of the steps make the score of the solution.
        thinking_end: the tag behind which the reward reads; None where it reads all steps.
    """

    reward: Reward
    question: str
    aggregation: Aggregation
    thinking_end: str | None

    @property
    def readout(self) -> Readout | None:
        """What the reward reads of the network of the policy; None for nothing."""
        readout: Readout | None = getattr(self.reward, "readout", None)
        return readout

    def room(
        self, steps: Sequence[Steps], before: ReasoningParticles | None = None
    ) -> Int64[Tensor, " N"]:
        """Return for how many tokens the reward has room behind the steps of each solution.

        Below zero, a solution has outgrown the reward. Where a reward only says whether steps fit,
        the room is 0 or -1. `before` are the solutions without their newest steps: of a reward that
        counts pieces, only the new pieces are counted.
        """
        known: Sequence[tuple[Steps, int] | None] = [None] * len(steps)
        if before is not None and before.reward_room is not None:
            known = list(zip(self._read(before.steps), before.reward_room.tolist(), strict=True))
        room = [
            self._measure(self.question, texts, self.aggregation.reading, each)
            for texts, each in zip(self._read(steps), known, strict=True)
        ]
        return torch.tensor(room, dtype=torch.long)

    def scored(self, particles: ReasoningParticles) -> tuple[ReasoningParticles, Cost]:
        """Score the steps that have no score yet, in one pass over all particles.

        Steps that do not fit have no score. A solution that a server does not score fails.

        Raises:
            InputError: the reward does not give one number to each step.
        """
        num_scored, num_steps = particles.num_scored, particles.num_steps
        if bool((num_scored >= num_steps).all()):
            return particles, Cost()
        room = particles.reward_room
        room = self.room(particles.steps) if room is None else room
        fitting, reading = list(particles.steps), self.aggregation.reading
        for n in (room < 0).nonzero().flatten().tolist():
            while fitting[n] and not self._fits(fitting[n]):
                fitting[n] = fitting[n][:-1]
        counts = num_scored.tolist()
        old = self._read([texts[:count] for texts, count in zip(fitting, counts, strict=True)])
        pairs = zip(old, self._read(fitting), strict=True)
        solutions = [Solution(scored, texts[len(scored) :]) for scored, texts in pairs]
        if getattr(self.reward, "reads_written", False):
            solutions = [
                replace(solution, written=_written(particles, n, len(fitting[n]), solution))
                for n, solution in enumerate(solutions)
            ]
        said, handle, cost = self.reward.score_steps(
            self.question,
            solutions,
            particles.reward_cache or CacheRows.none(len(particles)),
            reading=reading,
        )
        counts, codes = (
            [len(READINGS[reading](one.new)) for one in solutions],
            particles.finish_codes,
        )
        is_plain = len(said) == len(counts) and all(
            type(values) is list
            and len(values) == count
            and all(type(value) is float and value == value for value in values)
            for values, count in zip(said, counts, strict=True)
        )
        scores: Sequence[Any] = said
        if not is_plain:
            scores, failed = scores_and_failures(self.reward.name, solutions, said, reading)
            codes = codes.masked_fill(torch.tensor(failed), FAILED)
        rows = particles.log_odds.tolist()
        for texts, row, values in zip(fitting, rows, scores, strict=True):
            if values:  # a single one, where the whole solution was read
                row[len(texts) - len(values) : len(texts)] = values
        observed = replace(
            particles,
            log_odds=torch.tensor(rows, dtype=torch.float64).reshape(particles.log_odds.shape),
            num_scored=num_steps,
            finish_codes=codes,
            reward_room=room,
            reward_cache=handle.keep((codes == UNFINISHED) | (codes == MAX_STEPS)),
        )
        return observed, cost

    def rewound(self, before: ReasoningParticles, after: ReasoningParticles) -> ReasoningParticles:
        """Return `after` with the reward's cache of `before`, truncated to the scored steps."""
        handle = before.reward_cache
        if handle is None or bool((after.num_scored >= before.num_scored).all()):
            return after
        old, new = (
            self._read(
                [
                    texts[:count]
                    for texts, count in zip(each.steps, each.num_scored.tolist(), strict=True)
                ]
            )
            for each in (before, after)
        )
        handle = self.reward.rewind(self.question, handle, old, new, self.aggregation.reading)
        return replace(after, reward_cache=handle)

    @cached_property
    def _read(self) -> Callable[[Sequence[Steps]], Sequence[Steps]]:
        """From the steps of each solution to those steps that the reward reads."""
        if self.thinking_end is None:
            return tuple
        closing = self.thinking_end
        return lambda steps: [answer_steps(texts, closing) for texts in steps]

    def _fits(self, steps: Steps) -> bool:
        (read,) = self._read([steps])
        return self.reward.fits(self.question, read, self.aggregation.reading)

    @cached_property
    def _measure(self) -> Callable[[str, Steps, Reading, tuple[Steps, int] | None], int]:
        """The function that returns the room behind the steps of a solution."""
        if isinstance(self.reward, MeasuredReward):
            return self.reward.room_behind
        fits = self.reward.fits
        return lambda question, steps, reading, known: 0 if fits(question, steps, reading) else -1


def _written(particles: ReasoningParticles, n: int, num_texts: int, solution: Solution) -> Written:
    """Return what the policy has recorded of the steps of solution n that are read."""
    ends = [0, *particles.step_ends[n, :num_texts].tolist()]
    count = int(particles.num_tokens[n])
    return Written(
        particles.prompt_ids,
        particles.token_ids[n, :count],
        particles.log_probs[n, :count],
        tuple(ends[len(ends) - len(solution.steps) - 1 :]),
        None if particles.features is None else particles.features[n, :count],
        num_texts == len(particles.steps[n]) and int(particles.finish_codes[n]) in (ANSWER, EOS),
    )


def newest_log_odds(particles: ReasoningParticles) -> Float64[Tensor, " N"]:
    """Return the log-odds of the newest step; infinite where there is none."""
    certain = torch.full((len(particles), 1), torch.inf, dtype=torch.float64)
    log_odds = torch.cat([certain, particles.log_odds], dim=1)
    newest = log_odds.gather(1, particles.num_steps[:, None]).squeeze(1)
    return newest.nan_to_num(nan=torch.inf, posinf=torch.inf)


def scored_by_expert(
    expert: Policy, prompt_ids: tuple[int, ...], particles: ReasoningParticles
) -> tuple[ReasoningParticles, Cost]:
    """Return the particles with `expert_log_probs` of all tokens; new tokens are read in one pass.

    Args:
        expert: a language model with the tokens of the policy.
        prompt_ids: its prompt.
        particles: N solutions.
    """
    width = particles.token_ids.shape[1]
    known = padded(particles.expert_log_probs, width, torch.nan)
    written = torch.arange(width) < particles.num_tokens[:, None]
    starts = (~known.isnan() & written).sum(1)
    rows = (starts < particles.num_tokens).nonzero().squeeze(1)
    if not len(rows):
        return particles, Cost()
    handle = particles.expert_cache or CacheRows.none(len(particles))
    scores, cost = expert.score_tokens(
        ScoreRequest(
            prompt_ids,
            particles.token_ids[rows],
            particles.num_tokens[rows],
            starts[rows],
            handle.take(rows),
        )
    )
    counts = (particles.num_tokens - starts)[rows]
    read = appended(known[rows], starts[rows], scores.log_probs, counts, torch.nan)
    known = known.index_copy(0, rows, read)
    rest = (starts >= particles.num_tokens).nonzero().squeeze(1)
    order = torch.cat([rows, rest]).argsort()
    joined = join([scores.handle, handle.take(rest)]).take(order)
    kept = joined.keep(~particles.finished)
    return replace(particles, expert_log_probs=known, expert_cache=kept), cost
