r"""Particle Gibbs: a sequence of filters, each of which keeps a path of the previous one.

A sweep is a conditional run (`llmsmc.inference.mcmc.conditional_smc`); at its end the next
reference is drawn from the weights. A sweep leaves the posterior of the path invariant, for any
N >= 2.

The posterior is the mean of the weighted populations of all sweeps after the warm-up. Its evidence
is the unbiased evidence of the first run, which is not conditional.
`metadata["log_evidence_above"]` is the mean log-evidence of the conditional runs. In stationarity
its expectation is at least the true log-evidence, while the expectation of the first run's
log-evidence is at most that. The particles are ordered by sweep, and within a sweep by chain;
`metadata` has `num_chains` and `num_sweeps`.

References:
    1. Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods, section 2.4.3.
    2. Lindsten, Jordan, Schön (2014). Particle Gibbs with ancestor sampling, algorithm 2.
    3. Grosse, Ghahramani, Adams (2015). Sandwiching the marginal likelihood using bidirectional
       Monte Carlo.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from llmsmc.core.capabilities import RemembersPath
from llmsmc.core.checks import require_count
from llmsmc.core.cost import Cost
from llmsmc.core.genealogy import batches_of
from llmsmc.core.particles import concatenate
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.core.weights import log_evidence, normalize
from llmsmc.inference.loop.algorithm import Algorithm
from llmsmc.inference.loop.loop import Population, Run, RunRecorder, later, num_steps
from llmsmc.inference.mcmc.conditional_smc import (
    Chains,
    Sweep,
    check_paths,
    draw_references,
    first_references,
    sweep,
)
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.blockwise import conditional
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.results.estimates import Guarantee
from llmsmc.results.posterior import Posterior


@dataclass(frozen=True)
class ParticleGibbs(Algorithm):
    """Settings of particle Gibbs.

    Attributes:
        num_particles: N in each sweep of a chain, including the reference; at least 2.
        num_sweeps: the number of recorded conditional runs.
        num_warmup: the number of conditional runs before these.
        num_chains: the number of independent chains, which run side by side.
        resampler: a scheme that has a conditional version, or an `Adaptive` one around it.
        ancestor_sampling: whether the references take new pasts during a sweep; the model needs
            `log_transition`, or `splice` and `log_prior` if it remembers the path.
        backward_sampling: whether the paths drawn at the end of a sweep take new pasts; the model
            needs the same methods.
        record: whether the posterior keeps the population of every step, for `trajectories`.
    """

    guarantee: ClassVar[Guarantee] = "invariant"

    num_particles: int
    num_sweeps: int = 8
    num_warmup: int = 0
    num_chains: int = 1
    resampler: Resampler = Adaptive()
    ancestor_sampling: bool = True
    backward_sampling: bool = False
    record: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count("num_particles", self.num_particles, minimum=2)
        require_count("num_sweeps", self.num_sweeps)
        require_count("num_warmup", self.num_warmup, minimum=0)
        require_count("num_chains", self.num_chains)
        conditional(self.resampler)

    @property
    def chains(self) -> Chains:
        """The settings of a sweep."""
        return Chains(
            self.num_chains,
            self.num_particles,
            self.resampler,
            self.ancestor_sampling,
            self.backward_sampling,
        )

    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior of all sweeps so far after each recorded sweep."""
        run = Run(model, observations, RandomStreams(seed))
        if run.supports(RemembersPath):
            check_paths(run, splicing=self.ancestor_sampling or self.backward_sampling)
        recorder = RunRecorder(self, run)
        chains, horizon = self.chains, num_steps(model, observations)
        last = None if horizon is None else horizon - 1
        swept = sweep(run, chains, None, last, "0")
        evidence = log_evidence(swept.last.log_weights) - math.log(self.num_chains)
        kept: tuple[Sweep, ...] = ()
        above: list[float] = []
        for number in range(1, self.num_warmup + self.num_sweeps + 1):
            if evidence > -math.inf:
                generator = run.generator(number, "reference")
                draw = first_references if number == 1 else draw_references
                references = draw(run, chains, swept, generator)
                swept = sweep(run, chains, references, last, str(number))
            if number <= self.num_warmup:
                continue
            kept += (of_equal_chains(chains, swept) if evidence > -math.inf else swept,)
            above += chains.log_evidences(swept.last).tolist()
            build = partial(
                self._posterior, run, kept, evidence, sum(above) / len(above), recorder.spent()
            )
            yield build() if evidence == -math.inf else later(build)
            recorder.resume()

    def _posterior(
        self,
        run: Run,
        sweeps: Sequence[Sweep],
        evidence: float,
        above: float,
        spent: Callable[[], Cost],
    ) -> Posterior:
        """Return the posterior of all sweeps, with the evidence estimated from both sides."""
        recorder = RunRecorder(self, run, keep=self.record)
        for population in pooled(self.chains, sweeps, evidence):
            particles = population.particles
            recorder.note(population, run.model.record(particles), run.num_finished(particles))
        return recorder.posterior(
            run.truncated(particles),
            spent=spent,
            batches=batches(self.chains, len(sweeps)),
            log_evidence_above=above,
            num_chains=self.num_chains,
            num_sweeps=len(sweeps),
        )


def batches(chains: Chains, num_sweeps: int) -> Int64[Tensor, " SKN"]:
    """Return the batch of each particle: of one chain, and of successive sweeps."""
    of_sweeps = batches_of(num_sweeps).repeat_interleave(len(chains.owners()))
    return of_sweeps * chains.num_chains + chains.owners().repeat(num_sweeps)


def pooled(chains: Chains, sweeps: Sequence[Sweep], evidence: float) -> list[Population]:
    """Return the populations of all sweeps side by side, step by step, each of equal weight.

    A shorter sweep repeats its last step.
    """
    length = max(len(swept.populations) for swept in sweeps)
    count = len(chains.owners())
    share = evidence - math.log(len(sweeps)) if evidence > -math.inf else 0.0
    joined = []
    for t in range(length):
        populations = [
            swept.populations[t]
            if t < len(swept.populations)
            else replace(swept.last, ancestors=torch.arange(count))
            for swept in sweeps
        ]
        rates = [p.acceptance_rate for p in populations if p.acceptance_rate is not None]
        joined.append(
            Population(
                concatenate([population.particles for population in populations]),
                torch.cat([population.log_weights for population in populations]) + share,
                torch.cat([p.ancestors + k * count for k, p in enumerate(populations)]),
                any(population.resampled for population in populations),
                sum(rates) / len(rates) if rates else None,
            )
        )
    return joined


def of_equal_chains(chains: Chains, swept: Sweep) -> Sweep:
    """Return the sweep with weights of sum 1, to which each chain contributes equally."""

    def shared(population: Population) -> Population:
        rows = chains.blocks(population.log_weights)
        shares = torch.cat([normalize(row).log() for row in rows]) - math.log(chains.num_chains)
        return replace(population, log_weights=shares)

    return replace(swept, populations=tuple(map(shared, swept.populations)))
