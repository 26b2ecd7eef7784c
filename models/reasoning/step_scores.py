"""The scores that a reward gives to the steps of solutions: each is read once, and remembered."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from llmsmc.cost import Cost
from llmsmc.models.caches.cache_rows import CacheRows, Memory
from llmsmc.models.reasoning.particles import FAILED, ReasoningParticles
from llmsmc.models.reasoning.rewinding import first_steps
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

        A step that does not fit has none. A solution to which a server gives none fails.

        Raises:
            InputError: the reward does not give one number to each step.
        """
        num_scored, num_steps = particles.num_scored.tolist(), particles.num_steps
        if bool((particles.num_scored >= num_steps).all()):
            return Cost()
        solutions = []
        for texts, count in zip(particles.steps, num_scored, strict=True):
            read, old = self.read(texts), self.read(texts[:count])
            new = read[len(old) :] if self.fits(texts) else ()
            solutions.append(Solution(old, new))
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
                stop = len(particles.steps[n])
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

    def rewound(
        self, particles: ReasoningParticles, num_steps: Int64[Tensor, " N"], memory: Memory
    ) -> Memory:
        """Return what is cached of the first steps of each particle, those that remain."""
        num_left = torch.minimum(particles.num_scored, num_steps)
        before, after = (
            [self.read(texts) for texts in first_steps(particles, counts)]
            for counts in (particles.num_scored, num_left)
        )
        reading = self.aggregation.reading
        return self.reward.rewind(self.question, memory, before, after, reading)


def newest_log_odds(particles: ReasoningParticles) -> Float64[Tensor, " N"]:
    """Return the log-odds of the newest step; infinite where there is none."""
    certain = torch.full((len(particles), 1), torch.inf, dtype=torch.float64)
    log_odds = torch.cat([certain, particles.log_odds], dim=1)
    newest = log_odds.gather(1, particles.num_steps[:, None]).squeeze(1)
    return newest.nan_to_num(nan=torch.inf, posinf=torch.inf)
