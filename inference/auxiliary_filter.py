r"""The auxiliary particle filter: who is resampled is decided with an eye on what comes.

With a guess $\eta(x_{t-1}, y_t)$ at the likelihood of what follows a particle,

$$v^n = w_{t-1}^n \, \eta^n, \qquad A^n \sim \text{resample}(v), \qquad
w_\text{out}^n = v_\text{out}^n / \eta^{A^n},$$

and then a step as in the guided filter, or the bootstrap filter where the model has no proposal.
The weights w, not v, are carried: the guess is undone as soon as it has served, so that
$\sum_n w_t^n$ is unbiased for $p(y_{0:t})$ whatever the guess, as long as it is positive.

References:
    1. Pitt, Shephard (1999). Filtering via simulation: auxiliary particle filters.
    2. Johansen, Doucet (2008). A note on auxiliary particle filters.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.inference.adaptive import Adaptive
from llmsmc.inference.driver import Population, Stepwise
from llmsmc.inference.propagation import add_potentials, advance, going_on
from llmsmc.inference.resamplers import Resampler
from llmsmc.particles import take
from llmsmc.posterior import Guarantee
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import StateSpaceModel
from llmsmc.weights import LogWeights, uniform


@dataclass(frozen=True)
class AuxiliaryFilter(Stepwise):
    """Settings of the auxiliary filter, beside those of `Stepwise`; the model can look ahead.

    Attributes:
        resampler: the scheme; whether to resample is decided by the weights with the guess.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = Adaptive()

    def begin(self, model: StateSpaceModel, y: Any, streams: RandomStreams) -> Population:
        """Draw the initial particles and weigh them."""
        if not model.can_look_ahead():
            raise InputError(
                f"An auxiliary filter looks ahead. Got {type(model).__name__}, which does not; "
                "accepted: models with `log_lookahead`, or the bootstrap filter."
            )
        generator = streams.generator(0, "propagate")
        equal = uniform(self.num_particles)
        particles, log_weights = advance(model, 0, None, y, equal, generator=generator)
        return Population(particles, log_weights, torch.arange(self.num_particles))

    def step(
        self, model: StateSpaceModel, t: int, population: Population, y: Any, streams: RandomStreams
    ) -> Population:
        """Advance the particles that have not finished by one step."""
        # Resample by the weights with the guess, and undo it.
        mask = going_on(model, population.particles, population.log_weights)
        guess = model.log_lookahead(t - 1, population.particles, y).detach().cpu().double()
        guessed = add_potentials(population.log_weights, guess, mask, t - 1)
        generator = streams.generator(t, "resample")
        ancestors, carried, resampled = self.resampler(guessed, generator=generator)
        carried = undone(carried, torch.where(mask, guess, 0.0)[ancestors])
        # Advance
        previous = take(population.particles, ancestors) if resampled else population.particles
        generator = streams.generator(t, "propagate")
        particles, log_weights = advance(model, t, previous, y, carried, generator=generator)
        return Population(particles, log_weights, ancestors, resampled)


def undone(log_weights: LogWeights, guess: Tensor) -> LogWeights:
    """Divide the weights by the guess; a weight of zero stays zero."""
    alive = log_weights > -math.inf
    return torch.where(alive, log_weights - guess, -math.inf)
