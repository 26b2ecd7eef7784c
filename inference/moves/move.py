"""Moves: Markov kernels that leave the target of a step as it is."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Generator, Tensor

from llmsmc.inference.loop.population import Population
from llmsmc.inference.loop.run import Run


class Moved(NamedTuple):
    """What a move returns.

    Attributes:
        population: with the particles moved; weights and ancestors are those of before.
        accepted: which particles have taken the state that was proposed to them.
    """

    population: Population
    accepted: Bool[Tensor, " N"]


@runtime_checkable
class Move(Protocol):
    """A kernel that leaves the law of the path x_0, ..., x_t given y_0, ..., y_t as it is."""

    def check(self, run: Run) -> None:
        """Raise `InputError` unless particles of the model can be moved; before any are drawn."""
        ...

    def __call__(self, run: Run, t: int, population: Population, *, generator: Generator) -> Moved:
        """Move each particle of step t; consumes `generator`."""
        ...
