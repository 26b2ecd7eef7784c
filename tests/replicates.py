"""Many independent runs of a filter at once, for tests of unbiasedness.

R blocks of N particles run side by side as one population; each block is resampled on its own, so
that the blocks are independent filters of N particles.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from llmsmc import Posterior, StateSpaceModel
from llmsmc.core.state_space_model import Observations, Truncated
from llmsmc.inference import BootstrapFilter
from llmsmc.inference.loop.loop import Stepwise
from llmsmc.inference.resampling.blockwise import Blockwise
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.models import TabularLanguageModel
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, z_score, z_scores


@dataclass(frozen=True, eq=False)
class Replicates:
    """R independent runs.

    Attributes:
        posterior: all of them as one population of R N particles.
        weights: unnormalised, `[R, N]`; they sum to the evidence of each run.
    """

    posterior: Posterior
    weights: Tensor

    @property
    def evidence(self) -> Tensor:
        return self.weights.sum(1)

    def measure(self, indicators: Tensor) -> Tensor:
        """The sums over n of w^n h(x^n), `[R, K]`, for K functions given as `[R N, K]`."""
        weighted = self.weights.reshape(-1, 1) * indicators
        return weighted.reshape(*self.weights.shape, -1).sum(1)


def replicates(
    model: StateSpaceModel,
    observations: Observations | None = None,
    *,
    num_particles: int,
    resampler: Resampler,
    num_replicates: int = 600,
    seed: int = 0,
    truncated: Truncated = "keep",
    algorithm: Callable[..., Stepwise] = BootstrapFilter,
) -> Replicates:
    posterior = algorithm(
        num_particles=num_particles * num_replicates,
        resampler=Blockwise(resampler, num_replicates),
        truncated=truncated,
    ).run(model, observations, seed=seed)
    weights = posterior.log_weights.exp() * num_replicates
    return Replicates(posterior, weights.reshape(num_replicates, num_particles))


def check_unbiased(model: TabularLanguageModel, runs: Replicates, *, num_paths: int) -> None:
    """The mean evidence is exact, and so is the mean weight of each path; of that many, at least.

    A path that hardly ever occurs has no normal distribution to compare with.
    """
    assert abs(z_score(runs.evidence, math.exp(model.log_evidence()))) < MAX_Z
    paths = model.paths()
    hits = (runs.posterior.particles[:, None] == paths).all(2).double()
    assert float(hits.sum(1).min()) == 1.0
    frequent = hits.sum(0) >= 30
    z = z_scores(runs.measure(hits), model.log_target(paths).exp())[frequent]
    assert len(z) >= num_paths and float(z.abs().max()) < MAX_Z_OF_MANY
