r"""Regenerate a suffix: rewind to a step, draw a new suffix, accept by the likelihoods.

A path x of L steps is cut after its first k steps, with k uniform in 0..L-1. A new suffix is drawn
from the model, up to the current step t. The new path x' of L' steps is accepted with probability

$$\min\Bigl(1, \; \frac{L}{L'} \prod_{s \ge k} \frac{p(y_s \mid x'_{0:s})}{p(y_s \mid x_{0:s})}
\Bigr):$$

the transition cancels, since the suffix is drawn from it, and so does the prefix. This is an
independence Metropolis-Hastings sampler with a random block.

Reference: Hastings (1970). Monte Carlo sampling methods using Markov chains and their applications.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from llmsmc.core.capabilities import Rewinds
from llmsmc.core.particles import num_particles, take, where
from llmsmc.errors import InputError
from llmsmc.inference.loop.loop import Population, Run
from llmsmc.inference.moves.move import Moved
from llmsmc.inference.resampling.scheme import uniforms


@dataclass(frozen=True)
class RegenerateSuffix:
    """The move, for models whose states remember their path and can be rewound."""

    def check(self, run: Run) -> None:
        """Raise `InputError` unless the states can be rewound."""
        if not run.supports(Rewinds):
            raise InputError(
                "A suffix is regenerated behind a prefix. Got "
                f"{type(run.model).__name__}, whose states cannot be rewound; accepted: models "
                "with `rewind`, `num_steps` and `path_log_likelihood`."
            )

    def __call__(self, run: Run, t: int, population: Population, *, generator: Generator) -> Moved:
        """Move each particle of step t; consumes `generator`."""
        model, old = run.model_as(Rewinds), population.particles
        num_steps = model.num_steps(old)
        kept = (uniforms(len(num_steps), generator) * num_steps).long()
        new = regenerated(run, t, old, kept, generator)
        new, log_likelihood = run.observe_surviving_path(t, new)
        old, old_log_likelihood = run.observe_path(t, old)
        log_ratio = log_likelihood - old_log_likelihood
        new_num_steps = model.num_steps(new)
        log_ratio = log_ratio + num_steps.log() - new_num_steps.log()
        # A dead particle stays dead; a path without a step has no reverse move.
        possible = (population.log_weights > -math.inf) & (new_num_steps > 0)
        accepted = possible & (uniforms(len(num_steps), generator).log() < log_ratio)
        return Moved(replace(population, particles=where(accepted, new, old)), accepted)


def regenerated(
    run: Run, t: int, particles: Any, kept: Int64[Tensor, " N"], generator: Generator
) -> Any:
    """Return the paths with all steps after the first `kept` redrawn, up to step t or their end."""
    new, s = run.model_as(Rewinds).rewind(particles, kept), int(kept.min())
    while s <= t and not bool((finished := run.finished(new)).all()):
        going_on = (kept <= s) & ~finished
        rows = going_on.nonzero().squeeze(1)
        if len(rows):
            extended = run.model.sample_transition(s, take(new, rows), generator=generator)
            place = torch.zeros(num_particles(new), dtype=torch.int64)
            place[rows] = torch.arange(len(rows))
            new = where(going_on, take(extended, place), new)
        s += 1
    return new
