r"""Conditional sequential Monte Carlo: filters that each keep a reference path.

K chains of N particles run side by side. In each chain, slot 0 holds the reference x' with its own
ancestors and its true weights; all other particles are drawn, weighed and resampled as in a filter,
by a conditional resampling scheme. If the reference is a draw from the posterior, then so is a path
drawn at the end by the weights, for any N >= 2.

*Ancestor sampling*: where there is resampling, the reference takes a new past,

$$P(J = n) \propto w_{t-1}^n \;
\frac{\gamma(x_{0:t-1}^n, x'_{t:T})}{\gamma(x_{0:t-1}^n)},$$

and the other ancestors are then drawn given it. *Backward sampling*: the path drawn at the end
takes its past from the same distribution, from the last step back to the first.

References:
    1. Andrieu, Doucet, Holenstein (2010). Particle Markov chain Monte Carlo methods, section 2.4.3.
    2. Whiteley (2010), in the discussion of that paper: backward sampling.
    3. Lindsten, Jordan, Schön (2014). Particle Gibbs with ancestor sampling, algorithm 2.
    4. Chopin, Singh (2015). On particle Gibbs sampling.

Shapes: K chains, N particles in each.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Generator, Tensor

from llmsmc.core.capabilities import RemembersPath, Rewinds, Splices
from llmsmc.core.particles import concatenate, take
from llmsmc.core.weights import LogWeights, scaled, scaled_rows, uniform
from llmsmc.inference.loop.loop import Population, Run, absorb, weigh
from llmsmc.inference.mcmc.reference import References, RememberedPaths, Trajectories
from llmsmc.inference.resampling.blockwise import conditional, equal_rows, is_due, resample_rows
from llmsmc.inference.resampling.scheme import Resampler, inverse_cdf, uniforms


@dataclass(frozen=True)
class Chains:
    """Settings of K chains, each of N particles.

    Attributes:
        num_chains: K.
        num_particles: N, the reference among them; at least 2.
        resampler: a scheme that has a conditional version, or an `Adaptive` one around it.
        ancestor_sampling: whether the references take new pasts during the run.
        backward_sampling: whether the paths drawn at the end take new pasts.
    """

    num_chains: int
    num_particles: int
    resampler: Resampler
    ancestor_sampling: bool
    backward_sampling: bool = False

    @property
    def slots(self) -> Int64[Tensor, " K"]:
        """The particles that are references: the first of each chain."""
        return torch.arange(self.num_chains) * self.num_particles

    def blocks(self, values: Tensor) -> Tensor:
        """Return values of all particles as `[K, N]`."""
        return values.reshape(self.num_chains, self.num_particles)

    def owners(self) -> Int64[Tensor, " KN"]:
        """Return the chain of each particle."""
        return torch.arange(self.num_chains).repeat_interleave(self.num_particles)

    def log_evidences(self, population: Population) -> LogWeights:
        """Return the log-evidence of each chain."""
        return self.blocks(population.log_weights).logsumexp(1)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A run of the chains through all steps.

    Attributes:
        populations: of all K N particles, step by step.
        redrawn: the chains whose ancestors were drawn, step by step; none at step 0.
    """

    populations: tuple[Population, ...]
    redrawn: tuple[Bool[Tensor, " K"], ...]

    @property
    def last(self) -> Population:
        """The population of the last step."""
        return self.populations[-1]


def sweep(
    run: Run, chains: Chains, references: References | None, last: int | None, purpose: str
) -> Sweep:
    """Run the chains up to step `last`, or until all have finished; None for no references."""
    model, t = run.model, 0
    generator = run.generator(0, f"propagate/{purpose}")
    if references is None:
        particles = model.sample_initial(len(chains.owners()), generator=generator)
    else:
        num_others = len(chains.owners()) - chains.num_chains
        others = model.sample_initial(num_others, generator=generator)
        particles = _with_references(chains, references.at(run, 0), others)
    equal = uniform(chains.num_particles).repeat(chains.num_chains)
    particles, log_weights = weigh(run, 0, None, particles, equal)
    populations = [Population(particles, log_weights, torch.arange(len(equal)))]
    redrawn = [torch.zeros(chains.num_chains, dtype=torch.bool)]
    while t != last and not _is_over(run, populations[-1]):
        t += 1
        # Resample
        generator = run.generator(t, f"resample/{purpose}")
        due = _due(run, chains, populations[-1])
        past = chains.slots
        if references is not None and chains.ancestor_sampling:
            references, past = _drawn_pasts(
                run, chains, t, references, populations[-1], due, chains.slots, generator
            )
        given = None if references is None else past
        ancestors, carried = _resampled(chains, log_weights, due, given, generator)
        previous = take(particles, ancestors)
        finished = run.finished(previous)
        # Propagate
        generator = run.generator(t, f"propagate/{purpose}")
        if references is None:
            drawn = model.sample_transition(t, previous, generator=generator)
            particles = absorb(drawn, previous, finished)
        else:
            before = take(previous, _others(chains))
            drawn = model.sample_transition(t, before, generator=generator)
            others = absorb(drawn, before, finished[_others(chains)])
            particles = _with_references(chains, references.at(run, t), others)
        # Weigh
        particles, log_weights = weigh(run, t, previous, particles, carried, finished)
        rate = float((past != chains.slots)[due].double().mean()) if bool(due.any()) else None
        populations.append(Population(particles, log_weights, ancestors, bool(due.any()), rate))
        redrawn.append(due)
    return Sweep(tuple(populations), tuple(redrawn))


def check_paths(run: Run, *, splicing: bool) -> None:
    """Raise `InputError` unless states are paths that can be kept, and spliced if needed."""
    run.require(
        run.supports(RemembersPath) and run.supports(Rewinds),
        "A path is kept in a conditional run by a model that rewinds it to each of its steps.",
        "models with `path_log_likelihood` and `rewind`",
    )
    if splicing:
        run.require(
            run.supports(Splices),
            "Paths take new pasts by a model that splices.",
            "models with `splice` and `log_prior`, or no ancestor or backward sampling",
        )
        run.model.check_splice()


def first_references(run: Run, chains: Chains, swept: Sweep, generator: Generator) -> References:
    """Draw a path for each chain from the particles of all chains together."""
    weights = scaled(swept.last.log_weights)
    chosen = inverse_cdf(weights, uniforms(chains.num_chains, generator))
    return _lineages(run, swept, chosen)


def draw_references(run: Run, chains: Chains, swept: Sweep, generator: Generator) -> References:
    """Draw a path of each chain by the final weights."""
    chosen = draw_last(chains, swept, generator)
    references = _lineages(run, swept, chosen)
    if chains.backward_sampling:
        return _smoothed(run, chains, swept, references, chosen, generator)
    return references


def draw_last(chains: Chains, swept: Sweep, generator: Generator) -> Int64[Tensor, " K"]:
    """Draw a particle of each chain by the final weights."""
    weights = scaled_rows(chains.blocks(swept.last.log_weights))
    picks = inverse_cdf(weights, uniforms((chains.num_chains, 1), generator))
    return picks.squeeze(1) + chains.slots


def _lineages(run: Run, swept: Sweep, chosen: Int64[Tensor, " K"]) -> References:
    if run.supports(RemembersPath):
        return RememberedPaths(take(swept.last.particles, chosen))
    states = []
    for population in reversed(swept.populations):
        states.append(take(population.particles, chosen))
        chosen = population.ancestors[chosen]
    return Trajectories(tuple(reversed(states)))


def _smoothed(
    run: Run,
    chains: Chains,
    swept: Sweep,
    references: References,
    chosen: Int64[Tensor, " K"],
    generator: Generator,
) -> References:
    """Redraw the past of each path, from the last step back, at steps with drawn ancestors."""
    for t in reversed(range(1, len(swept.populations))):
        before, parents = swept.populations[t - 1], swept.populations[t].ancestors[chosen]
        references, chosen = _drawn_pasts(
            run, chains, t, references, before, swept.redrawn[t], parents, generator
        )
    return references


def _drawn_pasts(
    run: Run,
    chains: Chains,
    t: int,
    references: References,
    population: Population,
    wanted: Bool[Tensor, " K"],
    parents: Int64[Tensor, " K"],
    generator: Generator,
) -> tuple[References, Int64[Tensor, " K"]]:
    """Draw the particle before step t by weight times ratio; `parents` where none is wanted."""
    chosen, numbers = parents.clone(), torch.full_like(parents, -1)
    paths = None
    # A finished path keeps its past: it has no later step by which to choose.
    wanted = wanted & ~run.finished(take(population.particles, parents))
    if bool(wanted.any()):
        owners = chains.owners()
        rows = wanted[owners].nonzero().squeeze(1)
        log_ratio, paths = references.ancestor_log_ratio(
            run, t, take(population.particles, rows), owners[rows]
        )
        log_weights = population.log_weights[rows]
        log_probs = torch.where(log_weights > -math.inf, log_weights + log_ratio, -math.inf)
        weights = scaled_rows(log_probs.reshape(-1, chains.num_particles))
        picks = inverse_cdf(weights, uniforms((len(weights), 1), generator)).squeeze(1)
        numbers[wanted] = torch.arange(len(weights)) * chains.num_particles + picks
        chosen[wanted] = rows[numbers[wanted]]
    states = take(population.particles, chosen)
    return references.with_pasts(t, states, paths, numbers), chosen


def _due(run: Run, chains: Chains, population: Population) -> Bool[Tensor, " K"]:
    """Return which chains are resampled: alive, unfinished, and with uneven weights."""
    finished = chains.blocks(run.finished(population.particles)).all(1)
    rows = chains.blocks(population.log_weights)
    return ~finished & (rows.amax(1) > -math.inf) & is_due(chains.resampler, rows)


def _resampled(
    chains: Chains,
    log_weights: LogWeights,
    due: Bool[Tensor, " K"],
    given: Int64[Tensor, " K"] | None,
    generator: Generator,
) -> tuple[Int64[Tensor, " KN"], LogWeights]:
    """Resample the chains that are due, given the parents of their references, if any."""
    rows, chosen = chains.blocks(log_weights), due.nonzero().squeeze(1)
    if given is None:
        ancestors, carried, _ = resample_rows(chains.resampler, rows, due, generator)
    else:
        ancestors = torch.arange(chains.num_particles).expand(rows.shape).clone()
        carried = rows.clone()
        if len(chosen):
            weights, parents = scaled_rows(rows[chosen]), (given - chains.slots)[chosen]
            ancestors[chosen] = conditional(chains.resampler)(weights, parents, generator)
            carried[chosen] = equal_rows(rows[chosen])
    return (ancestors + chains.slots[:, None]).flatten(), carried.flatten()


def _is_over(run: Run, population: Population) -> bool:
    is_dead = population.log_weights.max() == -math.inf
    return bool(is_dead) or bool(run.finished(population.particles).all())


def _others(chains: Chains) -> Int64[Tensor, " M"]:
    """Return the particles that are not references."""
    rows = torch.arange(chains.num_chains * chains.num_particles)
    return rows[rows % chains.num_particles != 0]


def _with_references(chains: Chains, states: Any, others: Any) -> Any:
    """Put the references into the first slots of the chains, and the others behind them."""
    order = torch.cat([chains.slots, _others(chains)]).argsort()
    return take(concatenate([states, others]), order)
