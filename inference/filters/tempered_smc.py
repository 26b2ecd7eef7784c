r"""Tempered sequential Monte Carlo: from the prior of whole paths to their posterior, by degrees.

With p the prior of the paths, $\varphi$ their likelihood and $0 = \lambda_0 < \dots < \lambda_K =
1$, the targets are $\pi_k \propto p(x) \varphi(x)^{\lambda_k}$:

$$w^n \leftarrow w^n \, \varphi(x^n)^{\lambda_k - \lambda_{k-1}}, \qquad
A^n \sim \text{resample}(w), \qquad x^n \sim M_k(\cdot \mid x^{A^n}),$$

where $M_k$ repeats a move that leaves $\pi_k$ invariant. The paths are complete from the start, so
that moves can revise early decisions, which a filter makes once and for all.

With a given ladder, $\sum_n w^n$ is unbiased for the evidence. Without one, each exponent is the
largest at which the effective sample size of the increments is `ess_threshold` N, and the evidence
is only consistent. For unbiased evidence, run once more with the ladder that was found.

Waste-free: of N = M P particles, M are resampled and moved P - 1 times, and all the states that the
chains go through make the next population.

References:
    1. Neal (2001). Annealed importance sampling.
    2. Del Moral, Doucet, Jasra (2006). Sequential Monte Carlo samplers.
    3. Dau, Chopin (2022). Waste-free sequential Monte Carlo.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.capabilities import RemembersPath
from llmsmc.core.checks import require_count, require_fraction
from llmsmc.core.particles import concatenate, take
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.core.weights import LogWeights, effective_sample_size, temper
from llmsmc.errors import InputError, NumericalError
from llmsmc.inference.loop import independent_runs
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.inference.loop.loop import Population, Run, RunRecorder, add_potentials, num_steps
from llmsmc.inference.moves.move import Move
from llmsmc.inference.moves.regenerate_suffix import RegenerateSuffix
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.inference.resampling.systematic import systematic
from llmsmc.results.estimates import Guarantee
from llmsmc.results.posterior import Posterior


@dataclass(frozen=True)
class TemperedSMC(Algorithm):
    """Settings of tempered SMC, for models that remember their path.

    Attributes:
        num_particles: N.
        ladder: the exponents after 0, increasing to 1; None to choose them adaptively.
        ess_threshold: where no ladder is given, the share of N (or of the particles that are not
            dead, if these are fewer) to which the effective sample size may fall at each exponent.
        resampler: the scheme; between two exponents there is always resampling.
        move: the kernel.
        num_moves: moves between two exponents.
        waste_free: whether intermediate states are kept; N is then a multiple of `num_moves` + 1.
    """

    num_particles: int
    ladder: tuple[float, ...] | None = None
    ess_threshold: float | int = 0.5
    resampler: Resampler = systematic
    move: Move = RegenerateSuffix()
    num_moves: int = 3
    waste_free: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count("num_particles", self.num_particles)
        require_count("num_moves", self.num_moves)
        require_fraction("ess_threshold", self.ess_threshold)
        if self.ladder is not None:
            rises = all(a < b for a, b in zip((0.0, *self.ladder), self.ladder, strict=False))
            if not self.ladder or not rises or self.ladder[-1] != 1:
                raise InputError(
                    "A ladder leads from 0 to 1. Got "
                    f"{self.ladder!r}; accepted: rising numbers above 0, the last of them 1."
                )
        elif self.ess_threshold == 1:
            raise InputError(
                "A ladder of its own never reaches 1 where no effective sample may be lost. Got "
                f"ess_threshold={self.ess_threshold!r}; accepted: 0 <= ess_threshold < 1, or a "
                "ladder."
            )
        if self.waste_free and self.num_particles % (self.num_moves + 1):
            raise InputError(
                "Chains of num_moves + 1 states make up the particles. Got num_particles="
                f"{self.num_particles} and num_moves={self.num_moves}; accepted: a multiple of "
                f"{self.num_moves + 1}."
            )

    @property
    def guarantee(self) -> Guarantee:
        """`unbiased evidence` with a given ladder, otherwise `consistent`."""
        return "consistent" if self.ladder is None else "unbiased evidence"

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior at exponent 0, which is the prior, and at each one after it."""
        run = Run(model, observations, RandomStreams(seed))
        run.require(
            run.supports(RemembersPath),
            "Tempering of whole paths needs states that remember theirs.",
            "models with `path_log_likelihood`",
        )
        recorder = RunRecorder(self, run)
        self.move.check(run)
        t, population = self._prior(run)
        exponent, rung = 0.0, 0
        while True:
            particles = population.particles
            recorder.note(population, run.model.record(particles), run.num_finished(particles))
            yield recorder.posterior(run.truncated(particles))
            if exponent == 1:
                return
            recorder.resume()
            rung += 1
            if rung > 1:
                population = self._moved(run, t, population, exponent, rung)
            particles, likelihood = run.observe_surviving_path(t, population.particles)
            new = self._next(exponent, population.log_weights, likelihood, rung)
            weighed = _tempered(population.log_weights, likelihood, new - exponent, t)
            population = replace(population, particles=particles, log_weights=weighed)
            exponent = new

    def _prior(self, run: Run) -> tuple[int, Population]:
        """Draw complete paths from the prior; also the last step that a path may have.

        Paths drawn later may be longer than these, if they finish later.
        """
        horizon, t = num_steps(run.model, run.observations), 0
        population = independent_runs.init(run, self.num_particles)
        while t + 1 != horizon and not bool(run.finished(population.particles).all()):
            t += 1
            population = independent_runs.step(run, t, population)
        return sys.maxsize if horizon is None else horizon - 1, population

    def _moved(
        self, run: Run, t: int, population: Population, exponent: float, rung: int
    ) -> Population:
        """Resample, and move by a kernel that leaves the target of the exponent invariant."""
        num_chains = self.num_particles // (self.num_moves + 1 if self.waste_free else 1)
        ancestors, carried, _ = self.resampler(
            population.log_weights,
            generator=run.generator(rung, "resample"),
            num_offspring=num_chains,
        )
        chains = Population(take(population.particles, ancestors), carried, ancestors)
        tempered = replace(run, inverse_temperature=exponent)
        states, rates = [chains.particles], list[float]()
        for number in range(self.num_moves):
            generator = run.generator(rung, f"move/{number}")
            chains, accepted = self.move(tempered, t, chains, generator=generator)
            states.append(chains.particles)
            rates.append(float(accepted.double().mean()))
        rate = sum(rates) / len(rates)
        if not self.waste_free:
            return replace(chains, resampled=True, acceptance_rate=rate)
        share = carried - math.log(len(states))
        return Population(
            concatenate(states),
            share.repeat(len(states)),
            ancestors.repeat(len(states)),
            resampled=True,
            acceptance_rate=rate,
        )

    def _next(
        self,
        exponent: float,
        log_weights: LogWeights,
        log_likelihood: Float64[Tensor, " N"],
        rung: int,
    ) -> float:
        """Return the next exponent: of the ladder, or by the effective sample size."""
        if self.ladder is not None:
            return self.ladder[rung - 1]

        def size(step: float) -> float:
            return effective_sample_size(_tempered(log_weights, log_likelihood, step, rung))

        alive = int(((log_weights > -math.inf) & (log_likelihood > -math.inf)).sum())
        target = self.ess_threshold * alive
        low, high = 0.0, 1.0 - exponent
        if size(high) >= target:
            return 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if size(middle) >= target else (low, middle)
        if exponent + low == exponent:
            raise NumericalError(
                f"The ladder stands still at exponent {exponent:g}: no step above it keeps an "
                f"effective sample size of {target:g}, a share of {self.ess_threshold:g} of the "
                f"{alive} particles alive; accepted: a smaller ess_threshold, or a ladder."
            )
        return exponent + low


def _tempered(
    log_weights: LogWeights, log_likelihood: Float64[Tensor, " N"], step: float, t: int
) -> LogWeights:
    """Return the log-weights with the likelihood to the power of `step` as one more factor."""
    return add_potentials(log_weights, temper(log_likelihood, step), t)
