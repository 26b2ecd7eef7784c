"""What an algorithm is."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator

from llmsmc.posterior import Guarantee, Posterior
from llmsmc.state_space_model import Observations, StateSpaceModel


class Algorithm(ABC):
    """Settings, a guarantee, and two ways to run; the algorithms are frozen dataclasses."""

    @property
    @abstractmethod
    def guarantee(self) -> Guarantee:
        """What the algorithm promises."""

    @abstractmethod
    def iterate(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[Posterior]:
        """Yield the posterior after every step; the last one is that of `run`."""

    def run(
        self,
        model: StateSpaceModel,
        observations: Observations | None = None,
        *,
        seed: int | None = None,
    ) -> Posterior:
        """Return the posterior of the model given the observations.

        Args:
            model: what is inferred.
            observations: y_0, ..., y_{T-1}, None where one is missing. Without any the run ends
                when all particles have finished, or after `model.max_steps` steps.
            seed: repeats a run bit for bit; without one, every run is a new one.
        """
        return deque(self.iterate(model, observations, seed=seed), maxlen=1).pop()
