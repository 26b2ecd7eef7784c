r"""The guided particle filter: draw from a proposal that uses the observation.

$$A^n \sim \text{resample}(w_{t-1}), \qquad x_t^n \sim q_t(\cdot \mid x_{t-1}^{A^n}, y_t), \qquad
w_t^n = w_\text{out}^n \; \frac{p(x_t^n \mid x_{t-1}^{A^n}) \; p(y_t \mid x_t^n)}
{q_t(x_t^n \mid x_{t-1}^{A^n}, y_t)}.$$

The target is the target of the bootstrap filter. $\sum_n w_t^n$ is unbiased for $p(y_{0:t})$ if q
is positive wherever the numerator is positive.

Reference: Doucet, Godsill, Andrieu (2000). On sequential Monte Carlo sampling methods for Bayesian
filtering.
"""

from dataclasses import dataclass
from typing import ClassVar

from llmsmc.inference.loop.guided import can_propose, extend_guided, init_guided
from llmsmc.inference.loop.loop import Population, Run, Stepwise, resample
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class GuidedFilter(Stepwise):
    """Settings of the guided filter, in addition to those of `Stepwise`.

    The model defines `proposal`.

    Attributes:
        resampler: the scheme, which also decides whether to resample.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"
    needs_proposal: ClassVar[bool] = True

    resampler: Resampler = Adaptive()

    def init(self, run: Run) -> Population:
        """Draw the initial particles from the proposal and weigh them."""
        run.require(
            can_propose(run),
            "A guided filter needs a model that proposes.",
            "models with `proposal`, or the bootstrap filter",
        )
        return init_guided(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample, and advance the particles that have not finished by one step."""
        parents = resample(run, t, population, self.resampler)
        return extend_guided(run, t, parents)
