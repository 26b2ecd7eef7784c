r"""Particle marginal Metropolis-Hastings: the posterior of parameters, with estimated evidence.

A chain moves from $\theta$ to $\theta' \sim h(\cdot \mid \theta)$, runs a filter there, and accepts
with probability

$$\min\Bigl(1, \frac{\hat Z(\theta') \, p(\theta') \, h(\theta \mid \theta')}
{\hat Z(\theta) \, p(\theta) \, h(\theta' \mid \theta)}\Bigr).$$

The estimate of the current parameters is kept, not recomputed. Since it is unbiased and never
negative, the stationary distribution of the chain is the exact posterior of the parameters, for any
number of particles. Here h is a random walk on the parameters without their constraints, whose
covariance is learned in the warm-up and fixed after it.

The particles of the posterior are the parameters, `{name: [M, ...]}`. No evidence is estimated
over the parameters: the log-evidence is None.

Reference: Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods, section
2.4.2.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor

from llmsmc.core.checks import require_count
from llmsmc.core.cost import Cost
from llmsmc.core.genealogy import batches_of
from llmsmc.core.priors import Prior
from llmsmc.core.randomness import RandomStreams, draw_seed
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.core.weights import uniform
from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.inference.filters.bootstrap_filter import BootstrapFilter
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.inference.loop.loop import Population, Run, RunRecorder, later
from llmsmc.inference.mcmc.unconstrained import Parameters
from llmsmc.inference.resampling.scheme import uniforms
from llmsmc.results.estimates import Guarantee
from llmsmc.results.posterior import Posterior


@dataclass(frozen=True)
class ParticleMarginalMetropolisHastings(Algorithm):
    """Settings of the chain.

    Attributes:
        prior: the distributions of the parameters, by the names of attributes of the model.
        num_iterations: M, the recorded states of the chain.
        num_warmup: the states before these, which adapt the random walk.
        inner: the filter that estimates the evidence, without bias.
        scale: standard deviation of the random walk, before it is adapted.
    """

    guarantee: ClassVar[Guarantee] = "invariant"
    has_evidence: ClassVar[bool] = False

    prior: Prior
    num_iterations: int = 1000
    num_warmup: int = 200
    inner: Algorithm = BootstrapFilter(100, record=False)
    scale: float | int = 0.3

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count("num_iterations", self.num_iterations)
        require_count("num_warmup", self.num_warmup, minimum=0)
        Parameters(self.prior)
        if self.inner.guarantee != "unbiased evidence":
            raise InputError(
                "The evidence is estimated without bias. Got an inner algorithm that promises "
                f"{self.inner.guarantee!r}; accepted: one that promises 'unbiased evidence'."
            )
        if not 0 < self.scale < math.inf:
            raise InputError(f"scale is a length. Got {self.scale!r}; accepted: finite, above 0.")

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior of the parameters after each recorded iteration."""
        run, parameters = Run(model, observations, RandomStreams(seed)), Parameters(self.prior)
        recorder = RunRecorder(self, run)
        state = self._first(run, parameters)
        factor = self.scale * torch.eye(state.vector.shape[1], dtype=torch.float64)
        visited: tuple[Tensor, ...] = ()
        num_accepted = 0
        for number in range(-self.num_warmup, self.num_iterations):
            generator = run.generator(number, "iteration")
            noise = torch.randn(state.vector.shape, generator=generator, dtype=torch.float64)
            proposed = self._state(run, parameters, state.vector + noise @ factor.T, generator)
            chance = float(uniforms(1, generator).log())
            is_accepted = chance < proposed.log_target - state.log_target
            state = proposed if is_accepted else state
            visited += (state.vector,)
            if number == -1:
                factor = adapted(torch.cat(visited)[self.num_warmup // 2 :], factor)
                visited = ()
            if number < 0:
                continue
            num_accepted += is_accepted
            build = partial(self._posterior, run, visited, num_accepted, recorder.spent())
            yield later(build)
            recorder.resume()

    def _posterior(
        self, run: Run, visited: Sequence[Tensor], num_accepted: int, spent: Callable[[], Cost]
    ) -> Posterior:
        """Return the posterior of the parameters that the chain has visited."""
        values, count = Parameters(self.prior).values(torch.cat(tuple(visited))), len(visited)
        population = Population(
            values, uniform(count), torch.arange(count), acceptance_rate=num_accepted / count
        )
        recorder = RunRecorder(self, run)
        recorder.note(population, values)
        nobody = torch.zeros(count, dtype=torch.bool)
        return recorder.posterior(nobody, spent=spent, batches=batches_of(count))

    def _first(self, run: Run, parameters: Parameters) -> "ChainState":
        """Return the best of some draws from the prior."""
        generator = run.generator(0, "initial")
        draws = parameters.draw(8, generator)
        states = [self._state(run, parameters, draw[None], generator) for draw in draws]
        best = max(states, key=lambda state: state.log_target)
        if best.log_target == -math.inf:
            raise InputError(
                "A chain begins where the observations are possible. Got evidence 0 at all of 8 "
                "draws from the prior; accepted: a prior nearer to the observations, or more "
                "particles."
            )
        return best

    def _state(
        self, run: Run, parameters: Parameters, vector: Tensor, generator: Generator
    ) -> "ChainState":
        """Estimate the evidence at a vector of parameters, `[1, D]`."""
        seed = draw_seed(generator)
        try:
            model = parameters.set_in(run.model, vector[0])
            log_evidence = self.inner.run(model, run.observations, seed=seed).log_evidence
        except DegenerateWeightsError:
            log_evidence = -math.inf
        return ChainState(vector, float(parameters.log_density(vector)) + log_evidence)


@dataclass(frozen=True, eq=False)
class ChainState:
    """The state of the chain: the parameters, and the estimate of their evidence."""

    vector: Tensor
    log_target: float


def adapted(vectors: Tensor, factor: Tensor) -> Tensor:
    """Return a root of a covariance that suits a random walk on the distribution of the vectors.

    Reference: Roberts, Gelman, Gilks (1997): 2.38 squared over the dimension.
    """
    size = vectors.shape[1]
    if len(vectors) < 4 * size or len(torch.unique(vectors, dim=0)) <= size + 1:
        return factor
    covariance = torch.cov(vectors.T).reshape(size, size) * 2.38**2 / size
    root: Tensor = torch.linalg.cholesky(covariance + 1e-10 * torch.eye(size))
    return root
