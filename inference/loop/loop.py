"""The loop that the algorithms share: step after step until all have finished, with a record.

An algorithm defines how a population begins and how it makes one step. The loop supplies the
observations and the random streams, decides when to stop, applies the rule for truncated particles,
keeps the history, and detects a population whose weights are all zero.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, NamedTuple, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from llmsmc.core import clock
from llmsmc.core.checks import require_choice, require_count
from llmsmc.core.history import StepRecord
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.state_space_model import Observations, StateSpaceModel, Truncated
from llmsmc.core.weights import relative
from llmsmc.errors import DegenerateWeightsError, InputError
from llmsmc.inference.loop.algorithm import Algorithm, Staged
from llmsmc.inference.loop.population import Population
from llmsmc.inference.loop.run import Run
from llmsmc.results.posterior import Posterior


@dataclass(frozen=True)
class Stepwise(Staged):
    """An algorithm that goes once through the steps of the model, with N particles.

    Attributes:
        num_particles: N.
        truncated: the rule for particles that the run cuts off unfinished.
        record: whether the posterior keeps the population of every step, for `trajectories`.
    """

    num_particles: int
    _: KW_ONLY
    truncated: Truncated = "keep"
    record: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count("num_particles", self.num_particles)
        require_choice("truncated", self.truncated, get_args(Truncated))

    def stages(
        self, model: StateSpaceModel, observations: Observations | None, *, seed: int | None
    ) -> Iterator[Callable[[], Posterior]]:
        """After every step, yield a function that builds its posterior."""
        return drive(self, model, observations, seed=seed)

    @abstractmethod
    def begin(self, run: Run) -> Population:
        """Return the weighted particles of step 0."""

    @abstractmethod
    def step(self, run: Run, t: int, population: Population) -> Population:
        """Return the weighted particles of step t, given those of step t - 1."""

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Reweigh the last population, after the truncated particles have been dealt with."""
        return population


def drive(
    algorithm: Stepwise,
    model: StateSpaceModel,
    observations: Observations | None,
    *,
    seed: int | None,
) -> Iterator[Callable[[], Posterior]]:
    """Go through the steps; after each, yield a function that builds its posterior.

    Call the function before advancing the iterator.

    Raises:
        DegenerateWeightsError: all particles have weight zero; the error carries the posterior.
    """
    run = Run(model, observations, RandomStreams(seed))
    horizon = num_steps(model, observations)
    journal = Journal(algorithm, run, record=algorithm.record)
    population: Population | None = None
    t = 0
    while True:
        population = (
            algorithm.begin(run) if population is None else algorithm.step(run, t, population)
        )
        population, is_last, truncated = settled(run, t, horizon, population, algorithm.truncated)
        if is_last:
            population = algorithm.conclude(run, t, population)
        journal.note(population)
        if journal.is_dead:
            journal.posterior(truncated)  # raises
        yield partial(journal.posterior, truncated)
        if is_last:
            return
        journal.resume()
        t += 1


class Journal:
    """The record of a run, from which it builds the posterior of each step."""

    def __init__(self, algorithm: Algorithm, run: Run, *, record: bool) -> None:
        """Begin the record, and start the clock.

        Args:
            algorithm: the algorithm that runs.
            run: the run.
            record: whether to keep the population of every step.
        """
        self._algorithm, self._run, self._keeps = algorithm, run, record
        self._history: tuple[StepRecord, ...] = ()
        self._recorded: tuple[Any, ...] = ()
        self._cost_before = run.model.cost()
        self._seconds = 0.0
        self._started: float | None = clock.seconds()

    def resume(self) -> None:
        """Restart the clock; the time that the caller spends on a posterior is not counted."""
        if self._started is None:
            self._started = clock.seconds()

    def forget(self) -> None:
        """Clear the record of the steps; costs and time continue."""
        self._history, self._recorded = (), ()

    def note(self, population: Population) -> None:
        """Record a step."""
        self._population = population
        self._particles = self._run.model.record(population.particles)
        num_finished = self._run.num_finished(population.particles)
        self._history += (summary(len(self._history), population, num_finished),)
        self._recorded += (self._particles,) if self._keeps else ()

    @property
    def is_dead(self) -> bool:
        """Whether all particles of the last step have weight zero."""
        return self._history[-1].max_weight == 0.0

    def posterior(self, truncated: Bool[Tensor, " N"], **metadata: Any) -> Posterior:
        """Stop the clock and return the posterior of the last step.

        Raises:
            DegenerateWeightsError: all particles have weight zero; the error carries the posterior.
        """
        algorithm, run = self._algorithm, self._run
        if self._started is not None:
            self._seconds += clock.seconds() - self._started
            self._started = None
        posterior = Posterior(
            algorithm=type(algorithm).__name__,
            guarantee=algorithm.guarantee,
            seed=run.streams.seed,
            particles=self._particles,
            log_weights=self._population.log_weights,
            log_evidence=self._history[-1].log_evidence,
            history=self._history,
            cost=run.model.cost().since(self._cost_before, self._seconds),
            truncated=truncated,
            recorded=self._recorded if self._keeps else None,
            metadata={"model": type(run.model).__name__, **metadata},
        )
        if self.is_dead:
            cause = f", {int(truncated.sum())} of them truncated" if truncated.any() else ""
            raise DegenerateWeightsError(
                f"All {len(truncated)} particles have weight zero at step "
                f"{len(self._history) - 1}{cause}.",
                posterior,
            )
        return posterior


def num_steps(model: StateSpaceModel, observations: Observations | None) -> int | None:
    """Return the number of steps of a run; None if the run ends only when all have finished."""
    if observations is not None and len(observations) == 0:
        raise InputError("There is nothing to infer from. Got no observations; accepted: T >= 1.")
    if observations is not None:
        return len(observations)
    if model.max_steps is None and not model.can_finish():
        raise InputError(
            "Without observations a run needs an end. Got a model without `max_steps` and without "
            "`finished`; accepted: either of them, or observations."
        )
    return model.max_steps


class Settled(NamedTuple):
    """A population after the end-of-step rules (failures, horizon, truncation).

    Attributes:
        population: particles that failed, or that are truncated and rejected, have weight zero.
        is_last: whether the run ends with this step.
        truncated: the particles that the end of the run cuts off.
    """

    population: Population
    is_last: bool
    truncated: Bool[Tensor, " N"]


def settled(
    run: Run, t: int, horizon: int | None, population: Population, rule: Truncated
) -> Settled:
    """Apply the rules for particles of step t that failed, or that the end of the run cuts off."""
    if run.model.can_fail():
        population = rejecting(population, run.model.failed(population.particles).cpu())
    if not (t + 1 == horizon or run.all_finished(population.particles)):
        nobody = torch.zeros(population.log_weights.shape, dtype=torch.bool)
        return Settled(population, False, nobody)
    truncated = run.truncated(population.particles)
    if rule == "reject":
        population = rejecting(population, truncated)
    return Settled(population, True, truncated)


def rejecting(population: Population, rejected: Bool[Tensor, " N"]) -> Population:
    """Give some of the particles weight zero."""
    if not bool(rejected.any()):
        return population
    return replace(population, log_weights=population.log_weights.masked_fill(rejected, -torch.inf))


def summary(t: int, population: Population, num_finished: int) -> StepRecord:
    """Return the diagnostics of the population."""
    weights = relative(population.log_weights)
    return StepRecord(
        step=t,
        effective_sample_size=weights.effective_sample_size,
        log_evidence=weights.log_evidence,
        ancestors=population.ancestors,
        resampled=population.resampled,
        num_finished=num_finished,
        acceptance_rate=population.acceptance_rate,
        max_weight=weights.max_weight,
        merged=population.merged,
    )
