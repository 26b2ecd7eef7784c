r"""Islands: K bootstrap filters of N / K particles each, that never exchange a particle.

$$\hat Z = \frac{1}{K} \sum_k \hat Z_k, \qquad
\hat\pi = \frac{\sum_k \hat Z_k \, \hat\pi_k}{\sum_k \hat Z_k}.$$

The islands run side by side as one population that is resampled in blocks. Since weights are
carried and never renormalised, each island counts in proportion to its evidence. The variance is
larger than that of one filter with N particles, but a chance event reaches only one island, so that
more distinct answers survive.

Reference: Vergé, Dubarry, Del Moral, Moulines (2015). On parallel implementation of sequential
Monte Carlo methods: the island particle model.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from llmsmc.core.checks import require_count
from llmsmc.errors import InputError
from llmsmc.inference.filters.bootstrap_filter import BootstrapFilter
from llmsmc.inference.loop.loop import Population, Run, Stepwise
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.blockwise import Blockwise
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee, Noted


@dataclass(frozen=True)
class IslandFilter(Stepwise):
    """Settings of the island filter, in addition to those of `Stepwise`.

    N is the number of particles of all islands together.

    Attributes:
        num_islands: K; it divides N.
        resampler: the scheme within an island, which also decides whether to resample there.
    """

    guarantee: ClassVar[Guarantee] = "unbiased evidence"

    num_islands: int = 4
    resampler: Resampler = Adaptive()

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        require_count("num_islands", self.num_islands)
        if self.num_particles % self.num_islands:
            raise InputError(
                "The islands are equally large. Got num_particles="
                f"{self.num_particles} on {self.num_islands} islands; accepted: a multiple."
            )

    @property
    def noted(self) -> Noted:
        """The number of islands, whose evidences are compared."""
        return {"num_islands": self.num_islands}

    @cached_property
    def _filter(self) -> BootstrapFilter:
        return BootstrapFilter(self.num_particles, Blockwise(self.resampler, self.num_islands))

    def init(self, run: Run) -> Population:
        """Draw the initial particles of all islands and weigh them."""
        return self._filter.init(run)

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Resample within the islands, and advance by one step."""
        return self._filter.step(run, t, population)
