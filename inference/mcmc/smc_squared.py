r"""SMC squared: sequential inference of parameters, each with a particle filter of its own.

M parameters $\theta^m$ from the prior carry a filter each. With the factors
$\hat p_t^m$ by which their evidence grows at step t,

$$\omega_t^m = \omega_{t-1}^m \, \hat p_t^m, \qquad
\hat Z_t = \sum_m \omega_t^m \quad\text{for}\quad p(y_{0:t}),$$

the parameters being integrated out. Where the effective sample size of the weights falls below the
threshold, the pairs of parameters and filters are resampled, and moved by particle marginal
Metropolis-Hastings on the data so far, with a random walk that is adapted to the particles.

Without moves the evidence is unbiased; with these adapted ones it is consistent in M, for any
number of particles in the filters. The particles of the posterior are the parameters,
`{name: [M, ...]}`.

Reference: Chopin, Jacob, Papaspiliopoulos (2013). SMC squared: an efficient algorithm for
sequential analysis of state space models.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from llmsmc.core.checks import require_count, require_fraction
from llmsmc.core.priors import Prior
from llmsmc.core.randomness import RandomStreams, draw_seed
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.core.weights import LogWeights, effective_sample_size, log_evidence, uniform
from llmsmc.inference.filters.bootstrap_filter import BootstrapFilter
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.inference.loop.loop import Population, Run, RunRecorder, num_steps
from llmsmc.inference.mcmc.particle_marginal_metropolis_hastings import adapted
from llmsmc.inference.mcmc.unconstrained import Parameters
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.scheme import Resampler, uniforms
from llmsmc.inference.resampling.systematic import systematic
from llmsmc.results.estimates import Guarantee
from llmsmc.results.posterior import Posterior


@dataclass(frozen=True, eq=False)
class Filtered:
    """A filter at some step: its run, its population, its log-evidence so far."""

    run: Run
    population: Population | None
    log_evidence: float


@dataclass(frozen=True)
class SMC2(Algorithm):
    """Settings of SMC squared.

    Attributes:
        prior: the distributions of the parameters, by the names of attributes of the model.
        num_parameters: M.
        num_particles: N of each filter.
        num_moves: moves of each pair after resampling.
        ess_threshold: the share of M; a smaller effective sample size leads to resampling.
        resampler: the scheme for the pairs.
    """

    guarantee: ClassVar[Guarantee] = "consistent"

    prior: Prior
    num_parameters: int = 100
    num_particles: int = 100
    num_moves: int = 2
    ess_threshold: float = 0.5
    resampler: Resampler = systematic

    def __post_init__(self) -> None:
        """Check the settings."""
        Parameters(self.prior)
        require_count("num_parameters", self.num_parameters)
        require_count("num_particles", self.num_particles)
        require_count("num_moves", self.num_moves)
        require_fraction("ess_threshold", self.ess_threshold)

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior of the parameters after each observation."""
        run, parameters = Run(model, observations, RandomStreams(seed)), Parameters(self.prior)
        recorder = RunRecorder(self, run)
        horizon = num_steps(model, observations)
        generator = run.generator(0, "initial")
        vectors = parameters.draw(self.num_parameters, generator)
        filters = [self._started(run, parameters, vector, generator) for vector in vectors]
        log_weights: LogWeights = uniform(self.num_parameters)
        t = 0
        while t != horizon:
            ancestors, rate = torch.arange(self.num_parameters), None
            if t > 0 and self._is_due(log_weights):
                generator = run.generator(t, "rejuvenate")
                factor = self._random_walk(vectors, log_weights)
                ancestors, log_weights, _ = self.resampler(log_weights, generator=generator)
                vectors = vectors[ancestors]
                filters = [filters[m] for m in ancestors.tolist()]
                vectors, filters, rate = self._moved(
                    run, t - 1, parameters, vectors, filters, factor, generator
                )
            grown = [self._advanced(filtered, t) for filtered in filters]
            increments = torch.tensor(
                [
                    new.log_evidence - old.log_evidence
                    if old.log_evidence > -math.inf
                    else -math.inf
                    for old, new in zip(filters, grown, strict=True)
                ],
                dtype=torch.float64,
            )
            filters, log_weights = grown, log_weights + increments
            values = parameters.values(vectors)
            population = Population(values, log_weights, ancestors, rate is not None, rate)
            recorder.note(population, values)
            yield recorder.posterior(torch.zeros(self.num_parameters, dtype=torch.bool))
            recorder.resume()
            t += 1

    def _is_due(self, log_weights: LogWeights) -> bool:
        return effective_sample_size(log_weights) < self.ess_threshold * self.num_parameters

    def _random_walk(self, vectors: Tensor, log_weights: LogWeights) -> Tensor:
        """Return the root of a covariance that suits the weighted parameters."""
        drawn = systematic(log_weights, generator=Generator().manual_seed(0)).ancestors
        spread = 0.3 * torch.eye(vectors.shape[1], dtype=torch.float64)
        return adapted(vectors[drawn], spread)

    @property
    def _filter(self) -> BootstrapFilter:
        return BootstrapFilter(self.num_particles, Adaptive(), record=False)

    def _started(
        self, run: Run, parameters: Parameters, vector: Tensor, generator: Generator
    ) -> Filtered:
        """Return a filter for a vector of parameters, before its first step."""
        model, streams = parameters.set_in(run.model, vector), RandomStreams(draw_seed(generator))
        return Filtered(replace(run, model=model, streams=streams), None, 0.0)

    def _advanced(self, filtered: Filtered, t: int) -> Filtered:
        """Let a filter make step t; a dead filter stays dead."""
        if filtered.log_evidence == -math.inf:
            return filtered
        if filtered.population is None:
            population = self._filter.init(filtered.run)
        else:
            population = self._filter.step(filtered.run, t, filtered.population)
        return replace(
            filtered, population=population, log_evidence=log_evidence(population.log_weights)
        )

    def _moved(
        self,
        run: Run,
        last: int,
        parameters: Parameters,
        vectors: Tensor,
        filters: Sequence[Filtered],
        factor: Tensor,
        generator: Generator,
    ) -> tuple[Tensor, list[Filtered], float]:
        """Move each pair by particle marginal Metropolis-Hastings on the data up to `last`."""
        filters, num_accepted = list(filters), 0
        for _ in range(self.num_moves):
            noise = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
            proposed = vectors + noise @ factor.T
            log_prior = parameters.log_density(proposed) - parameters.log_density(vectors)
            chances = uniforms(len(vectors), generator).log()
            for m, vector in enumerate(proposed):
                filtered = self._started(run, parameters, vector, generator)
                for t in range(last + 1):
                    filtered = self._advanced(filtered, t)
                gap = filtered.log_evidence - filters[m].log_evidence
                if float(chances[m]) < float(log_prior[m]) + gap:
                    vectors, filters[m] = vectors.clone(), filtered
                    vectors[m] = vector
                    num_accepted += 1
        return vectors, filters, num_accepted / (self.num_moves * len(vectors))
