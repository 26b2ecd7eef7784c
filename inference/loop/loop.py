"""The loop of particle filters, and the operations that a step consists of.

An algorithm defines how a population starts and how it makes one step, out of `resample`, `extend`
and `weigh`. The loop supplies the observations and the random streams, decides when to stop,
applies the rule for truncated particles, keeps the history, and detects a population whose weights
are all zero.

A finished particle keeps its state and its log-weight bit for bit: its potential is 1 from then on.
A dead particle keeps both as well: its weight of zero stays zero.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar, cast, get_args

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.capabilities import Fails, Finishes, RemembersPath, Rewinds
from llmsmc.core.checks import require_choice, require_count
from llmsmc.core.cost import CLOCK, Cost
from llmsmc.core.counted import agreeing
from llmsmc.core.history import Merged, StepRecord
from llmsmc.core.particles import num_particles, take, where
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.state_space_model import Observations, StateSpaceModel, Truncated
from llmsmc.core.weights import LogWeights, Weights, on_host, uniform
from llmsmc.errors import DegenerateWeightsError, InputError, NumericalError
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.inference.resampling.scheme import Resampler, resampled
from llmsmc.results.posterior import Posterior

Capability = TypeVar("Capability")


@dataclass(frozen=True, eq=False)
class Run:
    """A model, its observations, and the random streams of the run; fixed throughout the run.

    Attributes:
        model: the model to infer.
        observations: y_0, ..., y_{T-1}; None if the run ends when all particles have finished.
        streams: the random streams.
        inverse_temperature: the exponent of the likelihood in the target.
    """

    model: StateSpaceModel
    observations: Observations | None
    streams: RandomStreams
    inverse_temperature: float = 1.0
    _supported: dict[type, bool] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Let the model know the observations."""
        object.__setattr__(self, "model", self.model.given(self.observations))

    def y(self, t: int) -> Any:
        """Return y_t; None where it is missing, and where there are no observations."""
        return None if self.observations is None else self.observations[t]

    def generator(self, t: int, purpose: str) -> Generator:
        """Return the generator of random numbers of step t for a purpose."""
        return self.streams.generator(t, purpose)

    def supports(self, capability: type) -> bool:
        """Return whether the model has a capability; the run asks the model once."""
        if capability not in self._supported:
            self._supported[capability] = self.model.supports(capability)
        return self._supported[capability]

    def require(self, is_able: bool, need: str, accepted: str) -> None:
        """Raise `InputError` unless the model is able to do what an algorithm needs."""
        if not is_able:
            name = type(self.model).__name__
            raise InputError(f"{need} Got {name}, which does not; accepted: {accepted}.")

    def model_as(self, capability: type[Capability]) -> Capability:
        """Return the model, typed by a capability that the run supports."""
        return cast(Capability, self.model)

    def finished(self, particles: Any) -> Bool[Tensor, " N"]:
        """Return which particles have finished; none where the model never finishes early."""
        if self.supports(Finishes):
            return cast(Finishes, self.model).finished(particles).cpu()
        return torch.zeros(num_particles(particles), dtype=torch.bool)

    def num_finished(self, particles: Any) -> int:
        """Return how many particles have finished."""
        return int(self.finished(particles).sum()) if self.supports(Finishes) else 0

    def truncated(self, particles: Any) -> Bool[Tensor, " N"]:
        """Return which particles the end of the run cuts off; none if observations end it."""
        if self.observations is None:
            return self.model.truncated(particles).cpu()
        return torch.zeros(num_particles(particles), dtype=torch.bool)

    def observe(self, t: int, previous: Any, particles: Any) -> tuple[Any, Tensor]:
        """Return the particles of step t, observed, and their log-likelihoods, `[N]`.

        `previous` is None at t = 0.
        """
        y = None if self.observations is None else self.observations[t]
        particles, values = self.model.observe(t, previous, particles, y)
        if self.inverse_temperature != 1:
            values = _tempered(values, self.inverse_temperature)
        return particles, on_host(values)

    def observe_path(self, t: int, particles: Any) -> tuple[Any, Float64[Tensor, " N"]]:
        """Return the particles of step t, observed, and the log-likelihoods of their paths."""
        self.require(
            self.supports(RemembersPath),
            "Observations of whole paths need states that remember theirs.",
            "models with `path_log_likelihood`",
        )
        if self.observations is None and self.supports(Rewinds):
            # Where nothing bounds a run, t is beyond all bounds.
            t = min(t, max(0, int(self.model_as(Rewinds).num_steps(particles).max()) - 1))
        particles, values = self.model.observe_path(t, particles, self.observations)
        if self.inverse_temperature != 1:
            values = _tempered(values, self.inverse_temperature)
        return particles, on_host(values)

    def observe_surviving_path(
        self, t: int, particles: Any, since: int = 0
    ) -> tuple[Any, Float64[Tensor, " N"]]:
        """Return the same as `observe_path`, with `-inf` for paths that a filter would have lost.

        Args:
            t: the step.
            particles: the paths.
            since: number of first steps that the paths are known to have survived.
        """
        particles, values = self.observe_path(t, particles)
        survives = self.model.survives(t, particles, since).cpu()
        return particles, values.where(survives, -math.inf)


def _tempered(log_likelihood: Tensor, inverse_temperature: float) -> Tensor:
    log_likelihood = on_host(log_likelihood)
    impossible = log_likelihood == -math.inf
    return (inverse_temperature * log_likelihood).masked_fill(impossible, -math.inf)


@dataclass(frozen=True, eq=False)
class Population:
    """The weighted particles after a step, with their ancestors.

    Attributes:
        particles: N states.
        log_weights: carried, never renormalised.
        ancestors: the parents among the particles of the step before.
        resampled: whether the parents were drawn anew.
        acceptance_rate: the acceptance rate of the moves of the step; None without moves.
        previous: the states of the step before that the particles come from, if they are kept.
        merged: the record of merged particles; None where an algorithm never merges.
    """

    particles: Any
    log_weights: LogWeights
    ancestors: Int64[Tensor, " N"]
    resampled: bool = False
    acceptance_rate: float | None = None
    previous: Any = None
    merged: Merged | None = None

    @cached_property
    def weights(self) -> Weights:
        """The weights with their statistics; computed once."""
        return Weights(self.log_weights)


def descended(population: Population, ancestors: Int64[Tensor, " N"]) -> Population:
    """Return the particles gathered at `ancestors`; the weights stay in their places."""
    particles = take(population.particles, ancestors)
    return replace(population, particles=particles, ancestors=ancestors, resampled=True)


def resample(run: Run, t: int, population: Population, resampler: Resampler) -> Population:
    """Return the parents of the particles of step t, with their outgoing weights."""
    generator = run.streams.generator(t, "resample")
    ancestors, carried, is_drawn = resampled(resampler, population.weights, generator)
    particles, previous = population.particles, population.previous
    if is_drawn:
        particles = take(particles, ancestors)
        previous = None if previous is None else take(previous, ancestors)
    return Population(particles, carried, ancestors, is_drawn, previous=previous)


def nothing(num_particles: int) -> Population:
    """Return N particles of equal weights that have no states yet, the parents of step 0."""
    return Population(None, uniform(num_particles), torch.arange(num_particles))


def init(run: Run, num_particles: int) -> Population:
    """Draw x_0 from the initial distribution and weigh it."""
    generator = run.generator(0, "propagate")
    particles = run.model.sample_initial(num_particles, generator=generator)
    particles, log_weights = weigh(run, 0, None, particles, uniform(num_particles))
    return Population(particles, log_weights, torch.arange(num_particles))


def extend(run: Run, t: int, parents: Population) -> Population:
    """Draw x_t from the transition and weigh it; the parents must not be extended again."""
    previous = run.model.donate(parents.particles)
    finished = run.finished(previous) if run.supports(Finishes) else None
    generator = run.streams.generator(t, "propagate")
    drawn = run.model.sample_transition(t, previous, generator=generator)
    particles = absorb(drawn, previous, finished)
    particles, log_likelihood = run.observe(t, previous, particles)
    log_weights = add_potentials(parents.log_weights, log_likelihood, t, finished)
    return replace(parents, particles=particles, log_weights=log_weights)


def propagate(run: Run, t: int, previous: Any, *, generator: Generator) -> Any:
    """Draw x_t from the transition for unfinished particles, donating the caches of `previous`."""
    previous = run.model.donate(previous)
    finished = run.finished(previous) if run.supports(Finishes) else None
    drawn = run.model.sample_transition(t, previous, generator=generator)
    return absorb(drawn, previous, finished)


def absorb(drawn: Any, previous: Any, finished: Bool[Tensor, " N"] | None) -> Any:
    """Return the drawn particles, with those that had finished in their previous states."""
    if finished is None or not bool(finished.any()):
        return drawn
    return where(~finished, drawn, previous)


def weigh(
    run: Run,
    t: int,
    previous: Any,
    particles: Any,
    carried: LogWeights,
    finished: Bool[Tensor, " N"] | None = None,
) -> tuple[Any, LogWeights]:
    """Observe the particles of step t, and add log p(y_t given x_t) to their log-weights.

    Args:
        run: the run.
        t: the step.
        previous: the states of the step before; None at t = 0.
        particles: the states x_t.
        carried: the log-weights before the observation.
        finished: the particles that had finished before, whose weights stay; None if there are
            none.

    Returns:
        The particles, with what the model has noted in them, and their log-weights.
    """
    particles, log_likelihood = run.observe(t, previous, particles)
    return particles, add_potentials(carried, log_likelihood, t, finished)


def add_potentials(
    log_weights: LogWeights,
    log_potentials: Tensor,
    t: int,
    finished: Bool[Tensor, " N"] | None = None,
) -> LogWeights:
    """Add the log-potentials of step t to the log-weights of particles neither dead nor finished.

    Raises:
        InputError: there is not one log-potential for each particle.
        NumericalError: a log-potential that counts is NaN or `+inf`.
    """
    if log_potentials.shape != log_weights.shape:
        raise InputError(
            f"Each particle has one log-potential. Got shape {tuple(log_potentials.shape)} at step "
            f"{t}; accepted: {tuple(log_weights.shape)}."
        )
    log_potentials = on_host(log_potentials)
    # Without NaN and +inf the dead need no mask, since -inf stays -inf.
    if finished is None and float(log_potentials.max()) < math.inf:
        return log_weights + log_potentials
    counts = log_weights > -math.inf
    if finished is not None:
        counts &= ~finished
    log_potentials = torch.where(counts, log_potentials, 0.0)
    if not log_potentials.max() < math.inf:
        bad = int((log_potentials.isnan() | (log_potentials == math.inf)).nonzero()[0])
        raise NumericalError(
            f"The log-potential of particle {bad} at step {t} is {float(log_potentials[bad])}; "
            "accepted: any number below +inf, and -inf to reject the particle."
        )
    return log_weights + log_potentials


@dataclass(frozen=True)
class Stepwise(Algorithm):
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

    @abstractmethod
    def init(self, run: Run) -> Population:
        """Return the weighted particles of step 0."""

    @abstractmethod
    def step(self, run: Run, t: int, population: Population) -> Population:
        """Return the weighted particles of step t, given those of step t - 1."""

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Reweigh the last population, after the rule for truncated particles has been applied."""
        return population

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior after every step; the last one is that of `run`.

        Raises:
            DegenerateWeightsError: all particles have weight zero; the error carries the posterior.
        """
        run, t = Run(model, observations, RandomStreams(seed)), 0
        horizon = num_steps(model, observations)
        recorder = RunRecorder(self, run, keep=self.record)
        population = self.init(run)
        while True:
            end = end_of_step(run, t, horizon, population, self.truncated)
            population, num_finished = end.population, end.num_finished
            if end.is_last:
                population = self.conclude(run, t, population)
                num_finished = run.num_finished(population.particles)
            recorder.note(population, run.model.record(population.particles), num_finished)
            yield recorder.posterior(end.truncated)
            if end.is_last:
                return
            recorder.resume()
            t += 1
            population = self.step(run, t, population)


def num_steps(model: StateSpaceModel, observations: Observations | None) -> int | None:
    """Return the number of steps of a run; None if the run ends only when all have finished."""
    if observations is not None and len(observations) == 0:
        raise InputError("There is nothing to infer from. Got no observations; accepted: T >= 1.")
    if observations is not None:
        return len(observations)
    if model.max_steps is None and not model.supports(Finishes):
        raise InputError(
            "Without observations a run needs an end. Got a model without `max_steps` and without "
            "`finished`; accepted: either of them, or observations."
        )
    return model.max_steps


class EndOfStep(NamedTuple):
    """A population after the end-of-step rules (failures, horizon, truncation).

    Attributes:
        population: particles that failed, or that are truncated and rejected, have weight zero.
        num_finished: the number of finished particles.
        is_last: whether the run ends with this step.
        truncated: the particles that the end of the run cuts off.
    """

    population: Population
    num_finished: int
    is_last: bool
    truncated: Bool[Tensor, " N"]


def end_of_step(
    run: Run, t: int, horizon: int | None, population: Population, rule: Truncated
) -> EndOfStep:
    """Apply the rules for particles of step t that failed, or that the end of the run cuts off."""
    particles, count, num_finished = population.particles, population.log_weights.shape[0], 0
    if run.supports(Fails):
        failed = cast(Fails, run.model).failed(particles).cpu()
        if bool(failed.any()):
            population = rejecting(population, failed)
    if run.supports(Finishes):
        num_finished = int(run.finished(particles).sum())
    if not (t + 1 == horizon or num_finished == count):
        return EndOfStep(population, num_finished, False, torch.zeros(count, dtype=torch.bool))
    truncated = run.truncated(particles)
    if rule == "reject":
        population = rejecting(population, truncated)
    return EndOfStep(population, num_finished, True, truncated)


def rejecting(population: Population, rejected: Bool[Tensor, " N"]) -> Population:
    """Give some of the particles weight zero."""
    return replace(population, log_weights=population.log_weights.masked_fill(rejected, -torch.inf))


class RunRecorder:
    """The record of a run, from which it builds the posterior of each step."""

    def __init__(self, algorithm: Algorithm, run: Run, *, keep: bool = False) -> None:
        """Start the record, and the clock.

        Args:
            algorithm: the algorithm that runs.
            run: the run.
            keep: whether to keep the population of every step.
        """
        self._algorithm, self._run, self._keep = algorithm, run, keep
        self._history: tuple[StepRecord, ...] = ()
        self._recorded: tuple[Any, ...] = ()
        self._cost_before = run.model.cost()
        self._clock = CLOCK.get()
        self._seconds, self._started = 0.0, self._clock()

    def resume(self) -> None:
        """Restart the clock; the time that the caller spends on a posterior is not counted."""
        self._started = self._clock()

    def spent(self) -> Callable[[], Cost]:
        """Stop the clock, and return a function that computes the cost up to now."""
        now = self._clock()
        self._seconds, self._started = self._seconds + now - self._started, now
        return partial(self._run.model.cost().since, self._cost_before, self._seconds)

    def note(self, population: Population, particles: Any, num_finished: int = 0) -> None:
        """Record a step.

        Args:
            population: the weighted particles.
            particles: the same particles, in the form that the posterior keeps.
            num_finished: the number of finished particles.
        """
        weights = population.weights
        record = StepRecord(
            step=len(self._history),
            effective_sample_size=weights.effective_sample_size,
            log_evidence=weights.log_evidence if self._algorithm.has_evidence else None,
            ancestors=population.ancestors,
            resampled=population.resampled,
            num_finished=num_finished,
            acceptance_rate=population.acceptance_rate,
            max_weight=weights.max_weight,
            merged=population.merged,
        )
        self._population, self._particles = population, particles
        self._history += (record,)
        self._recorded += (particles,) if self._keep else ()

    def posterior(
        self,
        truncated: Bool[Tensor, " N"],
        *,
        spent: Callable[[], Cost] | None = None,
        batches: Int64[Tensor, " N"] | None = None,
        **metadata: Any,
    ) -> Posterior:
        """Stop the clock and return the posterior of the last step, which is built when it is read.

        Args:
            truncated: the particles that the end of the run cuts off.
            spent: the cost, if it is not the cost of this recorder.
            batches: the batches of states of Markov chains.
            metadata: other facts about the run.

        Raises:
            DegenerateWeightsError: all particles have weight zero; the error carries the posterior.
        """
        last = self._history[-1]
        parts = dict(
            particles=self._particles,
            log_weights=self._population.log_weights,
            history=self._history,
            recorded=self._recorded if self._keep else None,
            truncated=truncated,
            batches=batches,
        )
        posterior = later(partial(self._build, parts, spent or self.spent(), metadata))
        if last.max_weight == 0.0:
            total, num_cut = len(truncated), int(truncated.sum())
            all_have = agreeing(total, "The only particle has", f"All {total} particles have")
            cut = agreeing(total, "truncated", f"{num_cut} of them truncated")
            raise DegenerateWeightsError(
                f"{all_have} weight zero at step {last.step}{f', {cut}' if num_cut else ''}."
                f"{' The evidence is estimated as zero.' if self._algorithm.has_evidence else ''}",
                posterior,
            )
        return posterior

    def _build(
        self, parts: dict[str, Any], spent: Callable[[], Cost], metadata: dict[str, Any]
    ) -> Posterior:
        return Posterior(
            algorithm=type(self._algorithm).__name__,
            guarantee=self._algorithm.guarantee,
            seed=self._run.streams.seed,
            log_evidence=parts["history"][-1].log_evidence,
            cost=spent(),
            metadata={
                "model": type(self._run.model).__name__,
                **self._algorithm.noted,
                **metadata,
            },
            **parts,
        )


def later(build: Callable[[], Posterior]) -> Posterior:
    """Return a posterior that is built when one of its attributes is first read."""
    posterior = Posterior.__new__(Posterior)
    vars(posterior)["build"] = build
    return posterior
