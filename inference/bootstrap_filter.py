r"""The bootstrap particle filter: propagate by the model, weigh by the likelihood, resample.

For t = 0, 1, ... and each of N particles, with $w_{-1}^n = 1/N$,

$$A^n \sim \text{resample}(w_{t-1}), \qquad x_t^n \sim \text{transition}(t, x_{t-1}^{A^n}), \qquad
w_t^n = w_\text{out}^n \; p(y_t \mid x_t^n),$$

and $\hat Z_t = \sum_n w_t^n$ is at all times an unbiased estimate of $p(y_{0:t})$. The target is
the law of the whole path given the observations.

Reference: Gordon, Salmond, Smith (1993). Novel approach to nonlinear/non-Gaussian Bayesian state
estimation.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from llmsmc.inference.adaptive import Adaptive
from llmsmc.inference.driver import Population, Stepwise
from llmsmc.inference.propagation import propagate, weigh
from llmsmc.inference.resamplers import Resampler
from llmsmc.inference.run import Run
from llmsmc.particles import take
from llmsmc.posterior import Guarantee
from llmsmc.weights import uniform


@dataclass(frozen=True)
class BootstrapFilter(Stepwise):
    """Settings of the bootstrap filter, beside those of `Stepwise`.

    Attributes:
        resampler: the scheme; it decides whether to resample, too.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = Adaptive()

    def begin(self, run: Run) -> Population:
        """Draw the initial particles and weigh them."""
        generator = run.generator(0, "propagate")
        particles = run.model.sample_initial(self.num_particles, generator=generator)
        log_weights = weigh(run.model, 0, None, particles, run.y(0), uniform(self.num_particles))
        return Population(particles, log_weights, torch.arange(self.num_particles))

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Advance the particles that have not finished by one step."""
        # Resample: the resampler decides whether, and returns the weights that remain.
        generator = run.generator(t, "resample")
        ancestors, carried, resampled = self.resampler(population.log_weights, generator=generator)
        previous = take(population.particles, ancestors) if resampled else population.particles
        # Propagate
        generator = run.generator(t, "propagate")
        particles = propagate(run.model, t, previous, generator=generator)
        # Weigh
        log_weights = weigh(run.model, t, previous, particles, run.y(t), carried)
        return Population(particles, log_weights, ancestors, resampled)
