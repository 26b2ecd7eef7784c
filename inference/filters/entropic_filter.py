r"""The entropic particle filter: softened early resampling, so that more particles survive.

Where the effective sample size has fallen below the threshold, ancestors are drawn from flattened
weights $v \propto w^{1/\tau}$ with a temperature

$$\tau = \max\Bigl(1, \frac{N}{\mathrm{ESS}(w)} (1 - s)\Bigr),$$

where s is the share of finished particles. The published algorithm gives the offspring equal
weights, which changes the target; and it measures progress relative to the maximal number of steps,
so that short solutions are always at an early stage. Here the offspring carry the weight $w / v$,
so that the evidence is unbiased for every temperature.

Reference: Giannone et al. (2025). Mitigating premature exploitation in particle-based Monte Carlo
for inference-time scaling. arXiv 2510.05825.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from llmsmc.core.checks import require_fraction
from llmsmc.core.weights import temper
from llmsmc.inference.loop.loop import Population, Run, Stepwise, extend, init, resample
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.inference.resampling.systematic import systematic
from llmsmc.results.estimates import Guarantee


@dataclass(frozen=True)
class EntropicFilter(Stepwise):
    """Settings of the entropic filter, in addition to those of `Stepwise`.

    Attributes:
        ess_threshold: the share of N; a smaller effective sample size leads to resampling.
        resampler: the scheme.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    ess_threshold: float = 0.5
    resampler: Resampler = systematic

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_fraction("ess_threshold", self.ess_threshold)

    def init(self, run: Run) -> Population:
        """Draw the initial particles and weigh them."""
        return init(run, self.num_particles)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample by flattened weights, and advance by one step."""
        size = population.weights.effective_sample_size
        if size >= self.ess_threshold * self.num_particles:
            own = torch.arange(self.num_particles)
            return extend(run, t, replace(population, ancestors=own, resampled=False))
        progress = float(run.finished(population.particles).double().mean())
        temperature = max(1.0, self.num_particles / size * (1 - progress))
        flattened = temper(population.log_weights, 1 / temperature)
        parents = resample(run, t, replace(population, log_weights=flattened), self.resampler)
        rest = temper(population.log_weights, 1 - 1 / temperature)[parents.ancestors]
        return extend(run, t, replace(parents, log_weights=parents.log_weights + rest))
