"""A weighted population with its history, and the estimates made from it."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.core.genealogy import (
    effective_sample_size_of_chain,
    lineages,
    relative_variance_of_evidence,
    relative_variance_of_evidence_after_merging,
    relative_variance_of_evidence_of_islands,
    variance_between_batches,
    variance_of_mean_after_merging,
    variance_of_mean_over_lags,
)
from llmsmc.core.history import MaybeNone, Merged, StepRecord
from llmsmc.core.particles import (
    element,
    is_tree,
    map_populations,
    named_populations,
    num_particles,
    take,
)
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import LogWeights, effective_sample_size, log_evidence, normalize
from llmsmc.errors import InputError
from llmsmc.storage.typed import mismatch

Guarantee = Literal[
    "unbiased evidence", "properly weighted", "invariant", "consistent", "heuristic"
]
"""The guarantee of an algorithm, for any number of particles.

* `unbiased evidence`: the evidence, not its log, is unbiased, and the particles are properly
  weighted: the expectation of the sum of w h is the integral of h over the unnormalised target;
* `properly weighted`: the particles are properly weighted up to an unknown constant factor;
* `invariant`: a draw from the target is mapped to a draw from the target;
* `consistent`: estimates are right only in the limit of many particles;
* `heuristic`: none of these.
"""


class Noted(TypedDict, total=False):
    """The metadata that the library reads: an estimate from above, the sizes of chains, islands."""

    log_evidence_above: float
    num_islands: int
    num_chains: int
    num_sweeps: int


NO_ANSWER = "no answer"
_MOST_DRAWS = 2**24
_ROUNDING = 1e-9  # below zero, of a variance that is zero


@dataclass(frozen=True, eq=False, repr=False)
class WeightedParticles:
    """N weighted particles that approximate the target, with the record of their run.

    Attributes:
        algorithm: name of the algorithm.
        guarantee: the guarantee of the algorithm.
        seed: the seed that repeats the run.
        particles: the population, N states.
        log_weights: carried and unnormalised; their logsumexp is `log_evidence`, if there is one.
        log_evidence: the log of the estimated normalising constant; None where the algorithm
            estimates none. (Files of earlier versions may have 0 there.)
        history: the diagnostics of each step.
        cost: the cost of the run.
        truncated: particles that the last step has cut off before they had finished.
        recorded: the population of each step, if recorded.
        batches: where the particles are states of Markov chains, the batch of successive states to
            which each belongs; standard errors then use the differences between batches.
        metadata: other facts about the run, of types that JSON can hold.
    """

    algorithm: str
    guarantee: Guarantee
    seed: int
    particles: Any
    log_weights: LogWeights
    log_evidence: float | MaybeNone
    history: tuple[StepRecord, ...]
    cost: Cost
    truncated: Bool[Tensor, " N"]
    # No defaults of the class, which would hide that a posterior has yet to be built.
    recorded: tuple[Any, ...] | None = field(default_factory=lambda: None)
    batches: Int64[Tensor, " N"] | None = field(default_factory=lambda: None)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def num_particles(self) -> int:
        """Return N."""
        return len(self.log_weights)

    @property
    def normalized_weights(self) -> Float64[Tensor, " N"]:
        """Return the probabilities of the particles."""
        return normalize(self.log_weights)

    @property
    def effective_sample_size(self) -> float:
        """Return the effective sample size: of the weights, or of a chain of single states.

        A chain, as of `ParticleMarginalMetropolisHastings`, has that of the number in its states
        whose autocorrelation is the longest. That of `ParticleGibbs`, whose sweeps are weighted
        populations, is that of the weights: it leaves out that successive sweeps are alike.
        """
        if self.batches is None or "num_sweeps" in self.metadata:
            return effective_sample_size(self.log_weights)
        columns = [
            values.detach().cpu().double().reshape(self.num_particles, -1)
            for _, values in named_populations(self.particles)
            if isinstance(values, Tensor)
        ]
        if not columns:
            return float(self.num_particles)
        return effective_sample_size_of_chain(torch.cat(columns, 1))

    @property
    def log_evidence_variance(self) -> float:
        """Return the variance of the log-evidence, estimated from the genealogy of this run.

        The estimator is made for multinomial resampling; with other schemes, whose variance is
        smaller, it is an indication. With merged particles it is made for the scheme of the run.
        Islands are compared with each other. NaN where the run does not tell:

        * all particles share one ancestor at step 0, or the estimate is below zero, which happens
          where few families are left;
        * the population size changes other than by merging, or all weights are zero;
        * there is no evidence; or the weights are not those it was estimated from, as after a
          selection, or in a Markov chain, whose evidence is that of its first run alone.

        Use several runs or islands then.
        """
        heuristic = self.guarantee == "heuristic" or self.batches is not None
        if heuristic or self.log_evidence is None or self.log_evidence == -math.inf:
            return math.nan
        variance = self._relative_variance_of_evidence()
        return max(variance, 0.0) if variance > -_ROUNDING else math.nan

    def _relative_variance_of_evidence(self) -> float:
        ancestors, merged = [record.ancestors for record in self.history], self._merged()
        num_islands = self.metadata.get("num_islands", 1)
        if num_islands > 1:
            return relative_variance_of_evidence_of_islands(self.normalized_weights, num_islands)
        if merged:
            return relative_variance_of_evidence_after_merging(
                self.normalized_weights, ancestors, merged
            )
        if any(len(row) != self.num_particles for row in ancestors):
            return math.nan
        num_resamplings = sum(record.resampled for record in self.history)
        return relative_variance_of_evidence(self.normalized_weights, ancestors, num_resamplings)

    def mean(self, function: Callable[[Any], Any]) -> Tensor:
        """Return the expectation of `function`, which maps the N states to N numbers or arrays."""
        values = _numbers(function(self.particles))
        if values is None:
            raise InputError(
                "A mean is taken over numbers. Got something else from the function; accepted: a "
                "tensor [N, ...] or N numbers (for other values there is `marginal`)."
            )
        weights = self.normalized_weights
        alive = weights > 0
        rows = values[alive].reshape(int(alive.sum()), -1)
        return (weights[alive] @ rows).reshape(values.shape[1:])

    def marginal(self, function: Callable[[Any], Any]) -> dict[Hashable, float]:
        """Return the distribution of `function`, most probable value first: `{value: probability}`.

        The function maps the N states to N values; rows of tensors become tuples.
        """
        weights = self.normalized_weights.tolist()
        probabilities: dict[Hashable, float] = {}
        for value, weight in zip(_values(function(self.particles)), weights, strict=True):
            if weight > 0:
                probabilities[value] = probabilities.get(value, 0.0) + weight
        return dict(sorted(probabilities.items(), key=lambda pair: -pair[1]))

    def standard_error(self, function: Callable[[Any], Any]) -> Any:
        """Return the estimated standard error of `mean(function)` or `marginal(function)`.

        The estimate comes from the genealogy of this single run, or, for a Markov chain, from
        batches of its successive states (see `llmsmc.core.genealogy`). Numbers and arrays give the
        standard error of the mean, as a float or a tensor; N other values give
        `{value: standard error}`. NaN if particles have been merged and share one ancestor, so that
        the genealogy tells nothing about the values; use more particles or several runs then.
        """
        result = function(self.particles)
        numbers = _numbers(result)
        if numbers is not None:
            variance = self._variance(numbers.reshape(len(numbers), -1))
            errors = variance.sqrt().reshape(numbers.shape[1:])
            return float(errors) if errors.dim() == 0 else errors
        values = _values(result)
        support = list(self.marginal(lambda particles: values))
        column = {value: k for k, value in enumerate(support)}
        indicators = torch.zeros(self.num_particles, len(support), dtype=torch.float64)
        for n, value in enumerate(values):
            if value in column:
                indicators[n, column[value]] = 1.0
        return dict(zip(support, self._variance(indicators).sqrt().tolist(), strict=True))

    def answers(self) -> dict[str, float]:
        """Return the distribution of the answer, most probable first; for models of text."""
        return {str(answer): weight for answer, weight in self.marginal(answer_labels).items()}

    def best(self) -> Any:
        """Return the particle with the largest weight."""
        return element(self.particles, int(self.log_weights.argmax()))

    def trajectories(self) -> Any:
        """Return the whole path x_0, ..., x_T of each particle, followed through its ancestors.

        Tensors `[N, ...]` become `[N, T, ...]`; populations of a model's own kind become a tuple
        of T populations, in which particle n is the ancestor of the final particle n.
        """
        if self.recorded is None:
            raise InputError(
                "Trajectories need the population of every step. Got a run that did not keep "
                "them; accepted: algorithms with record=True."
            )
        indices = lineages([record.ancestors for record in self.history])
        paths = [take(state, row) for state, row in zip(self.recorded, indices, strict=True)]
        if isinstance(paths[0], Tensor) or is_tree(paths[0]):
            return map_populations(_stacked, *paths)
        return tuple(paths)

    def sample(self, num_samples: int, *, seed: int | None = None) -> Any:
        """Draw states from the weighted population, with replacement."""
        generator = RandomStreams(seed).generator(0, "sample")
        weights = self.normalized_weights
        return take(
            self.particles, weights.multinomial(num_samples, replacement=True, generator=generator)
        )

    def check(self) -> None:
        """Check that the parts are consistent with each other.

        Raises:
            InputError: a weight is NaN or infinite, the log-evidence is not the logsumexp of the
                weights, sizes differ, an ancestor is not a particle of the step before, or metadata
                have another type.
        """
        total = log_evidence(self.log_weights)
        known = self.log_evidence
        if known is not None and not math.isclose(known, total, rel_tol=1e-6, abs_tol=1e-6):
            raise InputError(
                "The log-evidence is the log of the sum of the weights. Got "
                f"{known:.9g}; accepted: {total:.9g}."
            )
        sizes = [len(record.ancestors) for record in self.history]
        if sizes[-1:] != [self.num_particles]:
            raise InputError(
                f"The history ends with the particles. Got {len(sizes)} steps, of {sizes[-1:]} "
                f"particles in the last; accepted: {self.num_particles} in the last."
            )
        # Ancestors of the first step are indices of its draws, of which it may have kept only some.
        for record, size in zip(self.history, [_MOST_DRAWS, *sizes], strict=False):
            if not bool(((record.ancestors >= 0) & (record.ancestors < size)).all()):
                raise InputError(
                    "Ancestors are indices of particles of the step before. Got others at step "
                    f"{record.step}; accepted: 0 to {size - 1}."
                )
        batches = self.batches if self.batches is not None else torch.zeros(1)
        if not bool(((batches >= 0) & (batches < self.num_particles)).all()):
            raise InputError(
                f"Batches are numbered. Got other numbers; accepted: 0 to {self.num_particles - 1}."
            )
        wrong = mismatch(self.metadata, Noted, "metadata")
        if wrong is not None:
            raise InputError(f"Some metadata are read. {wrong}.")
        chains, sweeps = (self.metadata.get(key, 1) for key in ("num_chains", "num_sweeps"))
        if min(chains, sweeps) < 1 or self.num_particles % (chains * sweeps) != 0:
            raise InputError(
                f"The sweeps of chains have particles alike. Got {chains} chains of {sweeps} "
                f"sweeps; accepted: a product that divides {self.num_particles}."
            )
        islands = self.metadata.get("num_islands", 1)
        if islands < 1 or self.num_particles % islands != 0:
            raise InputError(
                f"Islands are equally large. Got {islands}; accepted: a number that divides "
                f"{self.num_particles}."
            )
        if self.recorded is not None and len(self.recorded) != len(sizes):
            raise InputError(
                f"A population is recorded for every step. Got {len(self.recorded)} of them; "
                f"accepted: {len(sizes)}."
            )
        _check_size(self.particles, self.num_particles)
        for population, size in zip(self.recorded or (), sizes, strict=False):
            _check_size(population, size)

    def _variance(self, values: Float64[Tensor, "N K"]) -> Float64[Tensor, " K"]:
        ancestors, merged = [record.ancestors for record in self.history], self._merged()
        if merged:
            max_weights = [record.max_weight for record in self.history]
            return variance_of_mean_after_merging(
                self.normalized_weights, values, ancestors, merged, max_weights
            )
        variance = variance_of_mean_over_lags(self.normalized_weights, values, ancestors)
        if self.batches is None:
            return variance
        return variance.maximum(
            variance_between_batches(self.normalized_weights, values, self.batches)
        )

    def _merged(self) -> list[Merged]:
        """Return the merging record of each step; nothing if some step has none."""
        merged = [record.merged for record in self.history if record.merged is not None]
        return merged if len(merged) == len(self.history) else []


def answer_labels(particles: Any) -> list[str]:
    """Return the answer of each particle of text, equal answers spelt alike.

    Raises:
        InputError: the population has no answers.
    """
    if not hasattr(particles, "answers"):
        raise InputError(
            f"Only models of text have answers. Got {type(particles).__name__}; accepted: "
            "populations with a method `answers` (for others there is `marginal`)."
        )
    return [NO_ANSWER if answer is None else answer for answer in particles.answers()]


def _stacked(*states: Any) -> Tensor:
    """Return the states of all steps as one tensor [N, T, ...]."""
    shapes = {tuple(state.shape) if isinstance(state, Tensor) else None for state in states}
    if len(shapes) > 1:
        raise InputError(
            f"Paths are made of states of one shape. Got {', '.join(map(str, shapes))}; accepted: "
            "tensors of one shape at all steps."
        )
    return torch.stack(states, dim=1)


def _check_size(particles: Any, size: int) -> None:
    """Raise `InputError` unless every component of the particles has N entries."""
    for name, population in named_populations(particles):
        if num_particles(population) != size:
            raise InputError(
                f"A population holds one of everything for each particle. Got "
                f"{num_particles(population)} in {name!r}; accepted: {size}."
            )


def _numbers(values: Any) -> Tensor | None:
    """Return an array [N, ...] or N numbers as a float64 tensor; None for any other values."""
    if not isinstance(values, Tensor | np.ndarray):
        if not all(isinstance(value, int | float | Tensor) for value in values):
            return None
    return torch.as_tensor(values).detach().to(device="cpu", dtype=torch.float64)


def _values(values: Any) -> Sequence[Hashable]:
    """Return N values that can be compared."""
    if isinstance(values, Tensor):
        values = values.tolist()
    return [_frozen(value) for value in values]


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        value = value.tolist()
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
