r"""The nested particle filter: each particle looks at several next steps, and takes one of them.

$$A^n \sim \text{resample}(w_{t-1}), \qquad
x_t^{n,m} \sim p(\cdot \mid x_{t-1}^{A^n}), \quad m = 1, \dots, M, \qquad
g^{n,m} = p(y_t \mid x_t^{n,m}),$$

$$x_t^n = x_t^{n,B} \;\text{ with }\; P(B = m) = \frac{g^{n,m}}{\sum_k g^{n,k}}, \qquad
w_t^n = w_\text{out}^n \; \frac{1}{M} \sum_{m=1}^M g^{n,m}.$$

It is a guided filter whose proposal approaches the optimal one, $p(x_t \mid x_{t-1}, y_t)$, as M
grows; its weight is an estimate of $p(y_t \mid x_{t-1})$, without bias for every M. M = 1 is the
bootstrap filter. Tree search by a verifier is its greedy relative: it takes the best of the M, and
weighs nothing.

Reference: Naesseth, Lindsten, Schön (2015). Nested sequential Monte Carlo methods.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float64, Int
from torch import Generator, Tensor

from llmsmc.core.capabilities import Fails
from llmsmc.core.checks import require_count
from llmsmc.core.particles import take
from llmsmc.inference.loop.loop import (
    Population,
    Run,
    Stepwise,
    absorb,
    add_potentials,
    nothing,
    resample,
)
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.multinomial import multinomial_rows
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class NestedFilter(Stepwise):
    """Settings of the nested filter, in addition to those of `Stepwise`.

    Attributes:
        candidates: M, the next steps that each particle looks at.
        resampler: the scheme, which also decides whether to resample.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    candidates: int = 4
    resampler: Resampler = Adaptive()

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_count("candidates", self.candidates)

    def init(self, run: Run) -> Population:
        """Draw the candidates of the initial particles, and take one of each."""
        return self._extend(run, 0, nothing(self.num_particles))

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample, draw the candidates of each particle, and take one of them by its potential."""
        parents = resample(run, t, population, self.resampler)
        return self._extend(run, t, parents)

    def _extend(self, run: Run, t: int, parents: Population) -> Population:
        count, generator = self.num_particles * self.candidates, run.generator(t, "propagate")
        previous, finished = None, torch.zeros(count, dtype=torch.bool)
        if parents.particles is None:
            candidates = run.model.sample_initial(count, generator=generator)
        else:
            siblings = torch.arange(self.num_particles).repeat_interleave(self.candidates)
            previous = run.model.donate(take(parents.particles, siblings))
            finished = run.finished(previous)
            drawn = run.model.sample_transition(t, previous, generator=generator)
            candidates = absorb(drawn, previous, finished)
        candidates, log_likelihood = run.observe(t, previous, candidates)
        if run.supports(Fails):
            failed = run.model_as(Fails).failed(candidates).cpu()
            log_likelihood = log_likelihood.masked_fill(failed & ~finished, -math.inf)
        potentials = add_potentials(torch.zeros(count).double(), log_likelihood, t, finished)
        potentials = potentials.view(-1, self.candidates)
        chosen = choose(potentials, run.generator(t, "choose"))
        means = potentials.logsumexp(1) - math.log(self.candidates)
        means = means.masked_fill(finished.view(-1, self.candidates)[:, 0], 0.0)
        places = torch.arange(self.num_particles) * self.candidates + chosen
        log_weights = parents.log_weights + means
        return replace(parents, particles=take(candidates, places), log_weights=log_weights)


def choose(log_potentials: Float64[Tensor, "N M"], generator: Generator) -> Int[Tensor, " N"]:
    """Return a place in each row, drawn in proportion to the potentials there.

    It is the first place of a row without a positive potential.
    """
    weights = (log_potentials - log_potentials.amax(1, keepdim=True)).exp().nan_to_num(0.0)
    return multinomial_rows(weights, 1, generator).squeeze(1).clamp(min=0)
