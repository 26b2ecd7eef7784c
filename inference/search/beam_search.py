"""Beam search over steps: the best partial solutions are kept, each continued in several ways.

Of K unfinished particles the K / M with the likeliest paths are kept, each in M copies, which are
extended independently; finished particles keep their places. The search returns the likeliest path.
Its particles are not a sample of any distribution, and it has no evidence: the log-evidence of the
posterior is None.

Reference: Snell, Lee, Xu, Kumar (2024). Scaling LLM test-time compute optimally can be more
effective than scaling model parameters. arXiv 2408.03314.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from llmsmc.core.checks import require_count
from llmsmc.inference.loop import independent_runs
from llmsmc.inference.loop.loop import Population, Run, Stepwise, descended
from llmsmc.inference.search.best_of_n import the_best
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class BeamSearch(Stepwise):
    """Settings of beam search, in addition to those of `Stepwise`.

    The search works on models that remember their path.

    Attributes:
        beam_width: M, continuations of each particle that is kept.
    """

    guarantee: ClassVar[Guarantee] = "heuristic"
    has_evidence: ClassVar[bool] = False

    beam_width: int = 4

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_count("beam_width", self.beam_width)

    def init(self, run: Run) -> Population:
        """Draw the initial particles."""
        return independent_runs.init(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Keep the best unfinished paths, and continue each in several ways."""
        particles, scores = run.observe_path(t - 1, population.particles)
        population = replace(population, particles=particles)
        active = (~run.finished(particles)).nonzero().squeeze(1)
        ancestors = torch.arange(self.num_particles)
        ancestors[active] = active[best(scores[active], self.beam_width)]
        return independent_runs.step(run, t, descended(population, ancestors))

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Move all weight to the likeliest path."""
        return the_best(run, t, population)


def best(scores: Float64[Tensor, " K"], copies: int) -> Int64[Tensor, " K"]:
    """Return the best of K paths, each in `copies` copies, K in all; ties go to the first."""
    order = scores.argsort(descending=True, stable=True)
    return order.repeat_interleave(copies)[: len(scores)]
