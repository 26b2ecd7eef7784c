"""What stays the same throughout a run."""

from dataclasses import dataclass
from typing import Any

from torch import Generator

from llmsmc.randomness import RandomStreams
from llmsmc.state_space_model import Observations, StateSpaceModel


@dataclass(frozen=True, eq=False)
class Run:
    """A model, what has been observed of it, and the random numbers of the run.

    Attributes:
        model: what is inferred.
        observations: y_0, ..., y_{T-1}; None if the run ends when all particles have finished.
        streams: the random streams.
    """

    model: StateSpaceModel
    observations: Observations | None
    streams: RandomStreams

    def y(self, t: int) -> Any:
        """Return y_t; None where it is missing, and where there are no observations."""
        return None if self.observations is None else self.observations[t]

    def generator(self, t: int, purpose: str) -> Generator:
        """Return the generator of random numbers of step t for a purpose."""
        return self.streams.generator(t, purpose)
