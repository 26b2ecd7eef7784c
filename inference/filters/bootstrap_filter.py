r"""The bootstrap particle filter: propagate by the model, weigh by the likelihood, resample.

For t = 0, 1, ... and each of N particles, with $w_{-1}^n = 1/N$,

$$A^n \sim \text{resample}(w_{t-1}), \qquad x_t^n \sim \text{transition}(t, x_{t-1}^{A^n}), \qquad
w_t^n = w_\text{out}^n \; p(y_t \mid x_t^n),$$

and $\hat Z_t = \sum_n w_t^n$ is at all times an unbiased estimate of $p(y_{0:t})$. The target is
the distribution of the whole path given the observations.

Reference: Gordon, Salmond, Smith (1993). Novel approach to nonlinear/non-Gaussian Bayesian state
estimation.
"""

from dataclasses import dataclass
from typing import ClassVar

from llmsmc.inference.loop.loop import Population, Run, Stepwise, extend, init, resample
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class BootstrapFilter(Stepwise):
    """Settings of the bootstrap filter, in addition to those of `Stepwise`.

    Attributes:
        resampler: the scheme, which also decides whether to resample.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    resampler: Resampler = Adaptive()

    def init(self, run: Run) -> Population:
        """Draw the initial particles and weigh them."""
        return init(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample, and advance the particles that have not finished by one step."""
        parents = resample(run, t, population, self.resampler)
        return extend(run, t, parents)
