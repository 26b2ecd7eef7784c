"""How a solution ends: with the text, with its answer, at a limit, or not yet."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from llmsmc.grading.extraction import gives_answer
from llmsmc.models.reasoning.particles import (
    ANSWER,
    EOS,
    FAILED,
    LENGTH,
    MAX_STEPS,
    UNFINISHED,
    ReasoningParticles,
    answer_text,
)
from llmsmc.models.rewards.reward import Steps
from llmsmc.models.text import stopping


@dataclass(frozen=True, eq=False)
class Endings:
    r"""What ends the solutions of a question.

    Attributes:
        stop_at_answer: whether a solution is complete with the step in which it gives its answer
            in ``\boxed{...}``; a box that is only mentioned does not end it.
        max_steps: number of steps after which solutions are cut off.
        room: how many tokens a solution can have.
        thinking_end: the tag behind which solutions answer; None where all of them is the answer.
        can_be_scored: whether the reward has room for the steps. A solution that outgrows it
            is cut off there.
    """

    stop_at_answer: bool
    max_steps: int | None
    room: int
    thinking_end: str | None
    can_be_scored: Callable[[Steps], bool]

    def codes(
        self, t: int, steps: tuple[Steps, ...], stop_reasons: Int64[Tensor, " N"]
    ) -> Int64[Tensor, " N"]:
        """Return how solutions stand after step t, of which each has ended for a reason."""
        is_last = self.max_steps is not None and t + 1 >= self.max_steps
        going_on = MAX_STEPS if is_last else UNFINISHED
        found = [
            self._code(texts, reason, going_on)
            for texts, reason in zip(steps, stop_reasons.tolist(), strict=True)
        ]
        return torch.tensor(found, dtype=torch.long)

    def _code(self, steps: Steps, reason: int, going_on: int) -> int:
        if reason == stopping.FAILED:
            return FAILED
        if not self.can_be_scored(steps):
            return LENGTH
        if reason == stopping.EOS:
            return EOS
        if self.stop_at_answer and self._has_answer(steps):
            return ANSWER
        return LENGTH if reason == stopping.LENGTH else going_on

    def are_possible(
        self, particles: ReasoningParticles, before: ReasoningParticles
    ) -> Bool[Tensor, " N"]:
        """Return which solutions end with their answer, and within the room that there is.

        What is drawn does; what is put together of several solutions need not. `before` are the
        same without their last steps.
        """
        possible = [
            not self._would_have_ended(before.steps[n]) and self._is_possible(particles, n)
            for n in range(len(particles))
        ]
        return torch.tensor(possible, dtype=torch.bool)

    def are_full(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions have no room for another token."""
        return particles.num_tokens >= self.room

    def are_cut_off(self, particles: ReasoningParticles) -> Bool[Tensor, " N"]:
        """Return which solutions have no room for another token, or none in the reward model."""
        outgrown = [not self.can_be_scored(steps) for steps in particles.steps]
        return torch.tensor(outgrown, dtype=torch.bool) | self.are_full(particles)

    def _is_possible(self, particles: ReasoningParticles, n: int) -> bool:
        steps, code = particles.steps[n], int(particles.finish_codes[n])
        if code == FAILED:
            return False
        count, outgrown = int(particles.num_tokens[n]), not self.can_be_scored(steps)
        if self.stop_at_answer and code != EOS and not outgrown:
            if self._has_answer(steps) != (code == ANSWER):
                return False
        if code == LENGTH:
            return count <= self.room
        if code in (EOS, ANSWER):
            return count <= self.room and not outgrown
        return count < self.room and not outgrown

    def _would_have_ended(self, steps: Steps) -> bool:
        """Return whether a solution ends with one of these steps, if the text does not end."""
        if not self.can_be_scored(steps):
            return True
        heads = (steps[:count] for count in range(1, len(steps) + 1))
        return self.stop_at_answer and any(self._has_answer(head) for head in heads)

    def _has_answer(self, steps: Steps) -> bool:
        """Return whether the steps give an answer, outside of thinking."""
        return gives_answer(answer_text("".join(steps), self.thinking_end))
