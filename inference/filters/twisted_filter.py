r"""The twisted filter: intermediate targets that anticipate later observations.

With a twist $\psi_t(x_t) > 0$, a guess at the likelihood of all steps after t, the intermediate
targets are $\gamma_t \psi_t$, and the weights of a step are

$$w_t = w_{t-1} \; G_t(x_t) \, \frac{\psi_t(x_t)}{\psi_{t-1}(x_{t-1})}.$$

At the end of a path nothing remains to be guessed: $\psi = 1$ from the step in which the path
finishes, and at the last step the twist is divided out. The final target is therefore the target of
the bootstrap filter, and the evidence is unbiased for every twist. With the perfect twist, $\psi_t
= \mathbb{E}[G_{t+1} \cdots G_T \mid x_t]$, and a twisted proposal, the evidence has no variance.

The evidence of an intermediate step belongs to its twisted target.

References:
    1. Whiteley, Lee (2014). Twisted particle filters.
    2. Zhao, Brekelmans, Makhzani, Grosse (2024). Probabilistic inference in language models via
       twisted sequential Monte Carlo. arXiv 2404.17546.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.capabilities import Twists
from llmsmc.inference.loop.guided import extend_guided, init_guided
from llmsmc.inference.loop.loop import Population, Run, Stepwise, add_potentials, resample
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class TwistedFilter(Stepwise):
    """Settings of the twisted filter, in addition to those of `Stepwise`.

    The model defines `log_twist`.

    Attributes:
        resampler: the scheme; the twisted weights decide whether to resample.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = Adaptive()

    def init(self, run: Run) -> Population:
        """Draw the initial particles, weigh and twist them."""
        run.require(
            run.supports(Twists),
            "A twisted filter needs a model that looks ahead to the end.",
            "models with `log_twist`, or the bootstrap filter",
        )
        population = init_guided(run, self.num_particles)
        return twisted(population, log_twist(run, 0, population), 0)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample, advance, and exchange the old twist for the new one."""
        parents = resample(run, t, population, self.resampler)
        before = log_twist(run, t - 1, parents)
        extended = extend_guided(run, t, parents)
        return twisted(extended, log_twist(run, t, extended) - before, t)

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Divide out the twist of the particles that are cut off."""
        return twisted(population, -log_twist(run, t, population), t)


def twisted(population: Population, log_factor: Float64[Tensor, " N"], t: int) -> Population:
    """Multiply the weights of the particles that are alive."""
    log_weights = add_potentials(population.log_weights, log_factor, t)
    return replace(population, log_weights=log_weights)


def log_twist(run: Run, t: int, population: Population) -> Float64[Tensor, " N"]:
    """Return the log-twist of each particle; 0 where no step follows."""
    nothing = torch.zeros(len(population.log_weights), dtype=torch.float64)
    if run.observations is not None and t + 1 == len(run.observations):
        return nothing
    finished = run.finished(population.particles)
    if bool(finished.all()):
        return nothing
    values = run.model_as(Twists).log_twist(t, population.particles, run.observations)
    return add_potentials(nothing, values, t, finished | (population.log_weights == -math.inf))
