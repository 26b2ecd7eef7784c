"""Many independent runs of one algorithm, side by side where possible."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.errors import DegenerateWeightsError
from llmsmc.inference import Algorithm, CoalescingFilter, IslandFilter, TemperedSMC, WeightedBestOfN
from llmsmc.inference.loop.loop import Stepwise
from llmsmc.inference.resampling.blockwise import Blockwise
from llmsmc.results.posterior import Posterior
from llmsmc.testing.instances import Instance

ROUNDING: Final = 1e-12
"""The least standard error: where there is no variance, what is left of rounding is no bias."""


@dataclass(frozen=True, eq=False)
class Replicates:
    """R independent runs on an instance.

    Attributes:
        instance: the instance.
        evidence: the evidence of each run, relative to the exact evidence.
        measures: the weighted sums of the statistics of each run, relative to the exact evidence.
    """

    instance: Instance
    evidence: Float64[Tensor, " R"]
    measures: Float64[Tensor, "R K"]

    def z_of_evidence(self) -> float:
        """Return the deviation of the mean evidence in standard errors."""
        return float(z_scores(self.evidence[:, None], torch.ones(1))[0])

    def z_of_measures(self) -> float:
        """Return the largest deviation of a statistic, without rare events, in standard errors."""
        return self._largest(z_scores(self.measures, self.instance.exact))

    def z_of_normalized_measures(self) -> float:
        """Return the same for the statistics over the evidence, which have no constant factor.

        The measures minus the exact expectations times the evidence have mean zero.
        """
        rest = self.measures - self.instance.exact * self.evidence[:, None]
        return self._largest(z_scores(rest / self.evidence.mean(), torch.zeros(1)))

    def _largest(self, z: Float64[Tensor, " K"], minimum: int = 30) -> float:
        frequent = (self.measures != 0).sum(0) >= minimum
        return float(z[frequent].abs().max()) if bool(frequent.any()) else 0.0

    def total_variation(self) -> float:
        """Return the distance to the exact posterior, of all runs weighted by their evidence."""
        found = self.measures.mean(0) / self.evidence.mean()
        return float((found - self.instance.exact).abs().sum() / 2)


def replicate(
    algorithm: Algorithm, instance: Instance, num_runs: int, *, seed: int = 0
) -> Replicates:
    """Run an algorithm on an instance many times.

    A filter whose resampler works on one population can run on many at once, as blocks of one
    large population that never exchange a particle; others run one after the other.
    """
    joint = blockwise(algorithm, num_runs)
    if joint is not None:
        posterior = joint.run(instance.model, instance.observations, seed=seed)
        weights = posterior.log_weights.exp().reshape(num_runs, -1) * num_runs
        return _replicates(instance, weights, posterior)
    rows, measures = [], []
    for number in range(num_runs):
        posterior = run_on(algorithm, instance, seed + number)
        one = _replicates(instance, posterior.log_weights.exp()[None], posterior)
        rows.append(one.evidence)
        measures.append(one.measures)
    return Replicates(instance, torch.cat(rows), torch.cat(measures))


def blockwise(algorithm: Any, num_runs: int) -> Algorithm | None:
    """Return the algorithm for R populations at once; None if it has no such form."""
    if isinstance(algorithm, IslandFilter):
        return replace(
            algorithm,
            num_particles=algorithm.num_particles * num_runs,
            num_islands=algorithm.num_islands * num_runs,
            record=False,
        )
    if isinstance(algorithm, WeightedBestOfN):
        return replace(algorithm, num_particles=algorithm.num_particles * num_runs)
    if isinstance(algorithm, TemperedSMC):
        by_resampler = algorithm.ladder is not None and not algorithm.waste_free
    else:
        by_resampler = isinstance(algorithm, Stepwise) and hasattr(algorithm, "resampler")
    # What has a threshold of its own decides by all of its particles.
    decides = hasattr(algorithm, "ess_threshold") and not isinstance(algorithm, TemperedSMC)
    merges = isinstance(algorithm, CoalescingFilter)
    if not by_resampler or decides or merges:
        return None
    total: int = algorithm.num_particles * num_runs
    joint: Algorithm = replace(
        algorithm, num_particles=total, resampler=Blockwise(algorithm.resampler, num_runs)
    )
    return joint


def z_scores(values: Tensor, exact: Tensor) -> Tensor:
    """How many standard errors the mean of R independent values `[R, ...]` is off."""
    error = values.std(0) / len(values) ** 0.5
    z: Tensor = (values.mean(0) - exact) / error.clamp(min=ROUNDING)
    return z


def _replicates(instance: Instance, weights: Tensor, posterior: Posterior) -> Replicates:
    weights = weights / instance.evidence
    statistics = instance.statistics(posterior.particles)
    weighted = weights.reshape(-1, 1) * statistics
    measures = weighted.reshape(*weights.shape, -1).sum(1)
    return Replicates(instance, weights.sum(1), measures)


def run_on(algorithm: Algorithm, instance: Instance, seed: int) -> Posterior:
    """Return the posterior; a run in which all particles die has found that the evidence is 0."""
    return _even_if_dead(lambda: algorithm.run(instance.model, instance.observations, seed=seed))


def last_on(algorithm: Algorithm, instance: Instance, seed: int) -> Posterior:
    """Return the last posterior that the steps of a run give, as `run_on` does."""
    steps = algorithm.iterate(instance.model, instance.observations, seed=seed)
    return _even_if_dead(lambda: deque(steps, maxlen=1).pop())


def _even_if_dead(find: Callable[[], Posterior]) -> Posterior:
    try:
        return find()
    except DegenerateWeightsError as error:
        assert isinstance(error.posterior, Posterior)
        return error.posterior
