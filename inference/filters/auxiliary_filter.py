r"""The auxiliary particle filter: resampling uses a look-ahead to the next observation.

With a guess $\eta(x_{t-1}, y_t)$ at the likelihood of the next step of a particle,

$$v^n = w_{t-1}^n \, \eta^n, \qquad A^n \sim \text{resample}(v), \qquad
w_\text{out}^n = v_\text{out}^n / \eta^{A^n},$$

and then a step as in the guided filter, or as in the bootstrap filter if the model has no proposal.
The weights w, not v, are carried: the guess is divided out right after resampling, so that
$\sum_n w_t^n$ is unbiased for $p(y_{0:t})$ for every positive guess.

References:
    1. Pitt, Shephard (1999). Filtering via simulation: auxiliary particle filters.
    2. Johansen, Doucet (2008). A note on auxiliary particle filters.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from llmsmc.core.capabilities import LooksAhead
from llmsmc.core.weights import LogWeights, on_host
from llmsmc.inference.loop.guided import extend_guided, init_guided
from llmsmc.inference.loop.loop import Population, Run, Stepwise, add_potentials, resample
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class AuxiliaryFilter(Stepwise):
    """Settings of the auxiliary filter, in addition to those of `Stepwise`.

    The model defines `log_lookahead`.

    Attributes:
        resampler: the scheme; the weights with the guess decide whether to resample.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = Adaptive()

    def init(self, run: Run) -> Population:
        """Draw the initial particles and weigh them."""
        run.require(
            run.supports(LooksAhead),
            "An auxiliary filter needs a model that looks ahead.",
            "models with `log_lookahead`, or the bootstrap filter",
        )
        return init_guided(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Advance the particles that have not finished by one step."""
        # Resample by the weights with the guess, then divide it out.
        model, log_weights = run.model_as(LooksAhead), population.log_weights
        finished = run.finished(population.particles)
        guess = on_host(model.log_lookahead(t - 1, population.particles, run.y(t)))
        guessed = add_potentials(log_weights, guess, t - 1, finished)
        parents = resample(run, t, replace(population, log_weights=guessed), self.resampler)
        guess = guess.where((log_weights > -math.inf) & ~finished, 0.0)[parents.ancestors]
        parents = replace(parents, log_weights=undone(parents.log_weights, guess))
        # Advance
        return extend_guided(run, t, parents)


def undone(log_weights: LogWeights, guess: Tensor) -> LogWeights:
    """Divide the weights by the guess; a weight of zero stays zero."""
    alive = log_weights > -math.inf
    return torch.where(alive, log_weights - guess, -math.inf)
