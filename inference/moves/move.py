"""Moves: Markov kernels that leave the target of a step invariant."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Generator, Tensor

from llmsmc.inference.loop.loop import Population, Run


class Moved(NamedTuple):
    """The result of a move.

    Attributes:
        population: the moved particles, with unchanged weights and ancestors.
        accepted: a mask of the particles whose proposal was accepted.
    """

    population: Population
    accepted: Bool[Tensor, " N"]


@runtime_checkable
class Move(Protocol):
    """A kernel that leaves the distribution of x_0, ..., x_t given y_0, ..., y_t invariant."""

    def check(self, run: Run) -> None:
        """Raise `InputError` unless the move works on the model; called before a run begins."""
        ...

    def __call__(self, run: Run, t: int, population: Population, *, generator: Generator) -> Moved:
        """Move each particle of step t; consumes `generator`."""
        ...
