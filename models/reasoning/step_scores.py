"""The scores that a reward gives to the steps of solutions: each is read once, and remembered."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.models.caches.row_cache import CacheRows, Memory
from llmsmc.models.reasoning.particles import FAILED, ReasoningParticles
from llmsmc.models.rewards.aggregation import Aggregation
from llmsmc.models.rewards.reward import Reward, Solution, Steps, scores_and_failures


@dataclass(frozen=True, eq=False)
class StepScores:
    """A reward that reads solutions of one question.

    Attributes:
        reward: the reward.
        question: the question.
        aggregation: how the scores of the steps make that of the solution.
        read: those of the steps of a solution that the reward reads.
    """

    reward: Reward
    question: str
    aggregation: Aggregation
    read: Callable[[Steps], Steps]

    def fits(self, steps: Steps) -> bool:
        """Return whether the reward has room for the steps."""
        return self.reward.fits(self.question, self.read(steps), self.aggregation.reading)

    def fill_in(self, particles: ReasoningParticles) -> Cost:
        """Score the steps that have no score yet, in one pass over all particles.

        Those that do not fit have none. A solution to which a server gives none fails.

        Raises:
            InputError: the reward does not give one number to each step.
        """
        num_scored, num_steps = particles.num_scored.tolist(), particles.num_steps
        if bool((particles.num_scored >= num_steps).all()):
            return Cost()
        fitting = [self._fitting(texts) for texts in particles.steps]
        solutions = []
        for texts, count in zip(fitting, num_scored, strict=True):
            old = self.read(texts[:count])
            solutions.append(Solution(old, self.read(texts)[len(old) :]))
        said, memory, cost = self.reward.score_steps(
            self.question,
            solutions,
            particles.reward_memory or CacheRows.none(len(particles)),
            reading=self.aggregation.reading,
        )
        scores, failed = scores_and_failures(
            self.reward.name, solutions, said, self.aggregation.reading
        )
        rows, shape = particles.log_odds.tolist(), particles.log_odds.shape
        for n, values in enumerate(scores):
            if values:  # a single one, where the whole solution was read
                stop = len(fitting[n])
                rows[n][stop - len(values) : stop] = values
        particles.log_odds = torch.tensor(rows, dtype=torch.float64).reshape(shape)
        particles.num_scored = num_steps
        codes = particles.finish_codes
        particles.finish_codes = codes.masked_fill(torch.tensor(failed), FAILED)
        particles.reward_memory = memory.keep(~particles.finished)
        return cost

    def log_scores(self, particles: ReasoningParticles) -> Float64[Tensor, " N"]:
        """Return log A of all steps that have a score."""
        counted = torch.arange(particles.log_odds.shape[1]) < particles.num_steps[:, None]
        counted = counted & ~particles.log_odds.isnan()
        return self.aggregation.log_score(particles.log_odds, counted)

    def forgotten(self, before: ReasoningParticles, after: ReasoningParticles) -> Memory | None:
        """Return what is cached of the steps of `before` whose scores `after` still has."""
        memory = before.reward_memory
        if memory is None or bool((after.num_scored >= before.num_scored).all()):
            return memory
        old, new = (
            [
                self.read(texts[:count])
                for texts, count in zip(each.steps, each.num_scored.tolist(), strict=True)
            ]
            for each in (before, after)
        )
        return self.reward.rewind(self.question, memory, old, new, self.aggregation.reading)

    def _fitting(self, steps: Steps) -> Steps:
        """Return the first steps for which the reward has room, as a rule all of them."""
        while steps and not self.fits(steps):
            steps = steps[:-1]
        return steps


def newest_log_odds(particles: ReasoningParticles) -> Float64[Tensor, " N"]:
    """Return the log-odds of the newest step; infinite where there is none."""
    certain = torch.full((len(particles), 1), torch.inf, dtype=torch.float64)
    log_odds = torch.cat([certain, particles.log_odds], dim=1)
    newest = log_odds.gather(1, particles.num_steps[:, None]).squeeze(1)
    return newest.nan_to_num(nan=torch.inf, posinf=torch.inf)
