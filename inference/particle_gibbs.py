r"""Particle Gibbs: filters one after the other, each of which keeps a path of the one before.

A sweep is a *conditional* run of N particles: slot 0 holds the reference x', whose ancestors are
its own and whose weights are its true ones; all other particles are drawn, weighed and resampled
as in a filter, by a conditional resampling scheme. At the end the next reference is drawn from the
weights. The sweep leaves the posterior of the path as it is, for any N >= 2.

*Ancestor sampling*: where there is resampling, the reference takes a new past,

$$P(J = n) \propto w_{t-1}^n \;
\frac{\gamma(x_{0:t-1}^n, x'_{t:T})}{\gamma(x_{0:t-1}^n)},$$

so that it changes at all steps, even where few of the particles of the end go back to another one.

The posterior is the mean of the weighted populations of all sweeps after the warm-up. Its evidence
is that of the first run, which is not conditional, and unbiased; `metadata["log_evidence_above"]`
is the mean log-evidence of the conditional runs, which in stationarity is no less than the truth on
average, as that of the first run is no more.

References:
    1. Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods, section 2.4.3.
    2. Lindsten, Jordan, Schön (2014). Particle Gibbs with ancestor sampling, algorithm 2.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Generator

from llmsmc.checks import require_count
from llmsmc.inference.adaptive import Adaptive
from llmsmc.inference.algorithm import Algorithm
from llmsmc.inference.conditional_resamplers import conditional
from llmsmc.inference.driver import Journal, num_steps
from llmsmc.inference.population import Population
from llmsmc.inference.propagation import absorb, weigh
from llmsmc.inference.reference import Reference, RememberedPath, Trajectory
from llmsmc.inference.resamplers import Resampler, inverse_cdf, uniforms
from llmsmc.inference.run import Run
from llmsmc.particles import concatenate, num_particles, take, where
from llmsmc.posterior import Guarantee, Posterior
from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel
from llmsmc.weights import LogWeights, log_evidence, normalize, scaled, uniform


@dataclass(frozen=True)
class ParticleGibbs(Algorithm):
    """Settings of particle Gibbs.

    Attributes:
        num_particles: N of each sweep, the reference among them; at least 2.
        num_sweeps: conditional runs that count.
        num_warmup: conditional runs before these.
        resampler: a scheme that has a conditional version, or an `Adaptive` one around it.
        ancestor_sampling: whether the reference takes new pasts; the model has `log_transition`,
            or `splice` and `log_prior` if it remembers the path.
        record: whether the posterior keeps the population of every step, for `trajectories`.
    """

    guarantee: ClassVar[Guarantee] = "invariant"

    num_particles: int
    num_sweeps: int = 8
    num_warmup: int = 0
    resampler: Resampler = Adaptive()
    ancestor_sampling: bool = True
    record: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count("num_particles", self.num_particles, minimum=2)
        require_count("num_sweeps", self.num_sweeps)
        require_count("num_warmup", self.num_warmup, minimum=0)
        conditional(self.resampler)

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior of the sweeps that count so far, after each of them."""
        run = Run(model, observations, RandomStreams(seed))
        journal = Journal(self, run, record=self.record)
        steps = self.sweep(run, None, 0)
        evidence = log_evidence(steps[-1].log_weights)
        kept: list[Sequence[Population]] = []
        above: list[float] = []
        for number in range(1, self.num_warmup + self.num_sweeps + 1):
            if log_evidence(steps[-1].log_weights) > -math.inf:
                reference = draw_path(run, steps, run.generator(number, "reference"))
                steps = self.sweep(run, reference, number)
            if number <= self.num_warmup:
                continue
            kept.append(steps)
            above.append(log_evidence(steps[-1].log_weights))
            journal.forget()
            *before, last = pooled(kept, evidence)
            for population in before:
                journal.note(population)
            yield journal.posterior(
                last, run.truncated(last.particles), log_evidence_above=sum(above) / len(above)
            )
            journal.resume()

    def sweep(self, run: Run, reference: Reference | None, number: int) -> list[Population]:
        """Return the populations of all steps of a run, conditional if there is a reference."""
        model, horizon, t = run.model, num_steps(run.model, run.observations), 0
        generator = run.generator(0, f"propagate/{number}")
        particles = model.sample_initial(self.num_particles, generator=generator)
        if reference is not None:
            particles = in_slot_0(reference.at(run, 0), particles)
        log_weights = weigh(model, 0, None, particles, run.y(0), uniform(self.num_particles))
        steps = [Population(particles, log_weights, torch.arange(self.num_particles))]
        while t + 1 != horizon and not bool(model.finished(particles).all()):
            t += 1
            if log_evidence(log_weights) == -math.inf:
                break
            # Resample
            scheme = self.resampler if reference is None else conditional(self.resampler)
            generator = run.generator(t, f"resample/{number}")
            ancestors, carried, resampled = scheme(log_weights, generator=generator)
            if reference is not None and resampled and self.ancestor_sampling:
                reference, past = self._new_past(run, t, reference, steps[-1], generator)
                ancestors = ancestors.clone()
                ancestors[0] = past
            previous = take(particles, ancestors)
            # Propagate
            generator = run.generator(t, f"propagate/{number}")
            drawn = model.sample_transition(t, previous, generator=generator)
            if reference is not None:
                drawn = in_slot_0(reference.at(run, t), drawn)
            particles = absorb(model, drawn, previous)
            # Weigh
            log_weights = weigh(model, t, previous, particles, run.y(t), carried)
            steps.append(Population(particles, log_weights, ancestors, resampled))
        return steps

    def _new_past(
        self,
        run: Run,
        t: int,
        reference: Reference,
        population: Population,
        generator: Generator,
    ) -> tuple[Reference, int]:
        """Draw the ancestor of the reference at step t; its own if it has finished."""
        if bool(run.model.finished(take(population.particles, torch.tensor([0])))[0]):
            return reference, 0
        log_ratio, pasts = reference.behind(run, t, population.particles)
        alive = population.log_weights > -math.inf
        weights = scaled(torch.where(alive, population.log_weights + log_ratio, -math.inf))
        past = int(inverse_cdf(weights, uniforms(1, generator)))
        return reference.continued(pasts, past), past


def in_slot_0(state: Any, particles: Any) -> Any:
    """Put the reference's state in the place of the first particle."""
    count = num_particles(particles)
    first = torch.arange(count) == 0
    return where(first, take(state, torch.zeros(count, dtype=torch.int64)), particles)


def draw_path(run: Run, steps: Sequence[Population], generator: Generator) -> Reference:
    """Draw one of the final particles by its weight, and return its path."""
    index = int(inverse_cdf(scaled(steps[-1].log_weights), uniforms(1, generator)))
    if run.model.remembers_path:
        return RememberedPath(take(steps[-1].particles, torch.tensor([index])))
    states = []
    for population in reversed(steps):
        states.append(take(population.particles, torch.tensor([index])))
        index = int(population.ancestors[index])
    return Trajectory(tuple(reversed(states)))


def pooled(sweeps: Sequence[Sequence[Population]], evidence: float) -> list[Population]:
    """Return the populations of all sweeps side by side, step by step, each sweep of equal weight.

    A sweep that is shorter than others stays at its last step.
    """
    length, count = max(len(steps) for steps in sweeps), len(sweeps[0][0].ancestors)
    joined = []
    for t in range(length):
        populations = [
            steps[t] if t < len(steps) else replace(steps[-1], ancestors=torch.arange(count))
            for steps in sweeps
        ]
        joined.append(
            Population(
                concatenate([population.particles for population in populations]),
                torch.cat(
                    [_share(population, evidence, len(sweeps)) for population in populations]
                ),
                torch.cat([p.ancestors + k * count for k, p in enumerate(populations)]),
                any(population.resampled for population in populations),
            )
        )
    return joined


def _share(population: Population, evidence: float, num_sweeps: int) -> LogWeights:
    """Return log-weights with a mass of the evidence, divided by the number of sweeps."""
    if log_evidence(population.log_weights) == -math.inf:
        return population.log_weights
    return normalize(population.log_weights).log() + evidence - math.log(num_sweeps)
