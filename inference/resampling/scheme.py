r"""What a resampling scheme is: from log-weights to ancestors and the log-weights that remain.

The contract, for N log-weights in and M out:

$$\mathbb{E}\Bigl[\sum_{m=1}^M w_\text{out}^m \, 1\{A^m = n\}\Bigr] = w_\text{in}^n.$$

Most schemes give the M offspring equal weights and preserve the mass exactly: logsumexp(out) =
logsumexp(in), never renormalised, so that the logsumexp of the carried log-weights is the
log-evidence at all times.

References:
    1. Douc, Cappé, Moulines (2005). Comparison of resampling schemes for particle filtering.
    2. Chopin, Papaspiliopoulos (2020). An Introduction to Sequential Monte Carlo, chapter 9.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from llmsmc.core.weights import log_evidence, relative
from llmsmc.errors import InputError


class Resampled(NamedTuple):
    """What a resampler returns.

    Attributes:
        ancestors: the parents of the M offspring.
        log_weights: the log-weights that the offspring start with.
        resampled: False if every particle is its own parent and keeps its log-weight.
    """

    ancestors: Int64[Tensor, " M"]
    log_weights: Float64[Tensor, " M"]
    resampled: bool = True


@runtime_checkable
class Resampler(Protocol):
    """A function from N log-weights to M = `num_offspring` ancestors (N if None)."""

    def __call__(
        self,
        log_weights: Float64[Tensor, " N"],
        *,
        generator: Generator,
        num_offspring: int | None = None,
    ) -> Resampled:
        """Resample; consumes `generator`."""
        ...


Batched = Callable[[Tensor, int, Generator], Tensor]
"""A scheme for K populations: weights [K, N], no row of which is zero, to ancestors [K, M]."""

Conditional = Callable[[Tensor, Tensor, Generator], Tensor]
"""A scheme for K populations: weights [K, N] and the parent of slot 0 in each, to ancestors."""


@dataclass(frozen=True, repr=False)
class Scheme:
    """A resampler with its forms: for one population, for many at once, and for particle Gibbs.

    ```python
    multinomial = Scheme("multinomial", batched=multinomial_rows)
    ancestors, log_weights, _ = multinomial(log_weights, generator=generator)
    ```

    Attributes:
        name: what it is called.
        batched: for K populations at once, whose offspring share the mass of theirs equally; None
            if populations are resampled one after the other.
        conditional: the law of `batched` in random order, given whose child slot 0 holds; None if
            the scheme cannot keep a reference (see `llmsmc.inference.resampling.conditional`).
        single: for one population; by default the batched form of one. A scheme whose offspring
            have unequal weights has this form alone.
        is_even: whether the numbers of offspring are fixed up to rounding, which leaves less
            variance.
    """

    name: str
    batched: Batched | None = None
    conditional: Conditional | None = None
    single: Resampler | None = None
    is_even: bool = False

    def __post_init__(self) -> None:
        """Check that there is a form."""
        if self.batched is None and self.single is None:
            raise InputError(
                f"A scheme draws ancestors. Got neither form for {self.name!r}; accepted: batched= "
                "or single=."
            )

    def __repr__(self) -> str:
        """Show which scheme it is."""
        return f"Scheme({self.name!r})"

    def __call__(
        self,
        log_weights: Float64[Tensor, " N"],
        *,
        generator: Generator,
        num_offspring: int | None = None,
    ) -> Resampled:
        """Resample one population; consumes `generator`."""
        if self.single is not None:
            return self.single(log_weights, generator=generator, num_offspring=num_offspring)
        assert self.batched is not None
        return one_population(self.batched, log_weights, generator, num_offspring)


def one_population(
    batched: Batched,
    log_weights: Float64[Tensor, " N"],
    generator: Generator,
    num_offspring: int | None,
) -> Resampled:
    """Resample a single population, and share its mass equally among the offspring."""
    size = num_offspring or log_weights.shape[0]
    found = relative(log_weights).alive()
    return sharing(batched(found.weights[None], size, generator)[0], found.log_evidence)


def equally_weighted(
    ancestors: Int64[Tensor, " M"], log_weights: Float64[Tensor, " N"]
) -> Resampled:
    """Share the mass of `log_weights` equally among the offspring."""
    return sharing(ancestors, log_evidence(log_weights))


def sharing(ancestors: Int64[Tensor, " M"], log_mass: float) -> Resampled:
    """Give all offspring the same weight, so that together they have that mass."""
    size = ancestors.shape[0]
    return Resampled(ancestors, torch.full((size,), log_mass - math.log(size), dtype=torch.float64))
