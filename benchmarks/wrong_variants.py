"""Errors of other libraries, made on purpose, with instances that reveal them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from llmsmc.core.capabilities import LooksAhead
from llmsmc.core.weights import effective_sample_size, log_evidence, uniform
from llmsmc.inference import (
    Adaptive,
    Algorithm,
    AuxiliaryFilter,
    BootstrapFilter,
    EntropicFilter,
    NestedFilter,
    RejectionFilter,
    Resampled,
    TemperedSMC,
    TwistedFilter,
    multinomial,
    systematic,
)
from llmsmc.inference.loop.loop import Population, Run, extend, resample
from llmsmc.inference.resampling.multinomial import multinomial_rows
from llmsmc.models import TabularLanguageModel
from llmsmc.testing import Instance, exact_instances
from llmsmc.testing.guided_models import GuidedTable
from llmsmc.testing.instances import guided_table, of_table


def algorithms() -> Iterator[tuple[str, Algorithm, Instance]]:
    """Yield each error with its name and an instance."""
    table = exact_instances()[0]
    always = Adaptive(systematic, 1.0)
    yield "weights dropped when nothing is resampled", BootstrapFilter(8, drops_weights), table
    yield "ratio increments without preserved mass", BootstrapFilter(3, ratio_increments), fates()
    yield "finished particles weighed again", WeighsFinishedAgain(8), stopper()
    yield "a guess that is not undone", Forgetful(8, always), table
    yield "a twist without its correction", Uncorrected(8, always), cut_off()
    yield "flattened weights not compensated", Uncompensated(8, ess_threshold=1.0), table
    yield "candidates weighed by the one that is kept", WeighedByTheKept(4, 4), table
    yield "draws counted to the first acceptance", WeighedByTheFirst(6), table
    yield (
        "moved by the next target, then weighed",
        MovesAhead(8, (0.1, 0.35, 1.0), num_moves=10),
        table,
    )


def drops_weights(
    log_weights: Tensor, *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Begin anew with equal weights, whether or not anything was resampled."""
    size = len(log_weights)
    if effective_sample_size(log_weights) < 0.5 * size:
        return systematic(log_weights, generator=generator)
    equal = torch.full((size,), log_evidence(log_weights) - math.log(size), dtype=torch.float64)
    return Resampled(torch.arange(size), equal)


def ratio_increments(
    log_weights: Tensor, *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Draw ancestors uniformly that keep their weights, and divide the random mass out."""
    size = len(log_weights)
    ancestors = torch.randint(size, (size,), generator=generator)
    carried = log_weights[ancestors]
    return Resampled(ancestors, carried - log_evidence(carried) + log_evidence(log_weights))


def fates() -> Instance:
    """Return a language whose first token decides about all potentials."""
    model = TabularLanguageModel.from_functions(
        2,
        6,
        next_token=lambda prefix: [float(prefix[0] == k) for k in (0, 1)] if prefix else [0.5, 0.5],
        potential=lambda prefix: 1.0 if prefix[0] else 0.1,
    )
    return of_table("two fates", model)


def stopper() -> Instance:
    """Return a language of an answer that stops at once, and one that goes on for four steps."""
    model = TabularLanguageModel.from_functions(
        2,
        4,
        next_token=lambda prefix: [0.0, 1.0] if prefix else [0.5, 0.5],
        potential=lambda prefix: 0.6 if prefix[0] == 0 else 0.5,
        eos=0,
    )
    return of_table("early stopper", model)


def cut_off() -> Instance:
    """Return a language of four tokens that a fifth one, never drawn, would have to end."""
    table = guided_table()
    laws, scores, proposals = [], [], []
    for t in range(4):
        codes = torch.arange(4**t)
        old = torch.zeros_like(codes)
        for k in range(t):
            old = 3 * old + ((codes // 4 ** (t - 1 - k)) % 4).clamp(max=2)
        pad = torch.nn.functional.pad
        laws.append(pad(table.log_transitions[t].exp(), (0, 1))[old])
        proposals.append(pad(table.log_proposals[t].exp(), (0, 1))[old])
        potentials = table.log_potentials[t].exp().reshape(-1, 3)
        scores.append(pad(potentials, (0, 1), value=1.0)[old].flatten())
    model = GuidedTable.of(TabularLanguageModel(laws, scores, eos=3), proposals)
    return of_table("cut off", model)


@dataclass(frozen=True)
class WeighsFinishedAgain(BootstrapFilter):
    """Finished particles are weighed by their last potential at every later step."""

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Make a step, and then the error."""
        after = super().step(run, t, population)
        assert isinstance(run.model, TabularLanguageModel)
        ended_before = (after.particles[:, :t] == run.model.eos).any(1)
        again = torch.where(ended_before, math.log(0.6), 0.0)
        return replace(after, log_weights=after.log_weights + again)


class Forgetful(AuxiliaryFilter):
    """The guess stays in the weights."""

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Make a step, and then the error."""
        after = super().step(run, t, population)
        guess = run.model_as(LooksAhead).log_lookahead(t - 1, population.particles, None)
        guess = guess[after.ancestors]
        return replace(after, log_weights=after.log_weights + guess)


class Uncorrected(TwistedFilter):
    """The twist of a truncated particle stays in the weights."""

    def conclude(self, run: Run, t: int, population: Population) -> Population:
        """Leave the weights as they are."""
        return population


class Uncompensated(EntropicFilter):
    """Offspring of flattened weights begin with equal ones."""

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Make a step, and then the error."""
        after = super().step(run, t, population)
        if not after.resampled:
            return after
        parents = population.particles[after.ancestors]
        equal = uniform(len(parents)) + log_evidence(population.log_weights)
        return extend(run, t, Population(parents, equal, after.ancestors, True))


class WeighedByTheKept(NestedFilter):
    """A particle is weighed by the potential of the candidate that it takes, not by their mean."""

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Make a step, and then the error."""
        after = super().step(run, t, population)
        previous = population.particles[after.ancestors]
        _, log_likelihood = run.observe(t, previous, after.particles)
        carried = resample(run, t, population, self.resampler).log_weights
        return replace(after, log_weights=carried + log_likelihood)


class WeighedByTheFirst(RejectionFilter):
    """A particle is weighed by one over the number of draws up to its first acceptance."""

    def step(self, run: Run, t: int, population: Population) -> Population:
        """Make a step, and then the error."""
        after = super().step(run, t, population)
        carried = resample(run, t, population, self.resampler).log_weights
        others = (carried - after.log_weights).exp().round()  # among which the first one is
        uniforms = torch.rand(len(others), generator=run.generator(t, "first"))
        firsts = (uniforms * others).floor() + 1
        return replace(after, log_weights=carried - firsts.log())


class MovesAhead(TemperedSMC):
    """Moves by the next target before it weighs by the ratio of the two."""

    def _moved(self, run: Any, t: int, population: Any, exponent: float, rung: int) -> Any:
        assert self.ladder is not None
        return super()._moved(run, t, population, self.ladder[rung - 1], rung)


def overwritten(weights: Tensor, parents: Tensor, generator: Generator) -> Tensor:
    """Sort the ancestors and overwrite the first, so that the smallest of them gets lost.

    Measured in particles 0.4, `mcmc.CSMC`.
    """
    ancestors = multinomial_rows(weights, weights.shape[1], generator).sort(1).values
    ancestors[:, 0] = parents
    return ancestors


SORTED = replace(multinomial, conditional=overwritten)
"""Multinomial resampling whose conditional form sorts its ancestors, and overwrites the first."""
