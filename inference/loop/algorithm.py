"""The base class of the algorithms."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import ClassVar

from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.results.estimates import Guarantee, Noted
from llmsmc.results.posterior import Posterior


class Algorithm(ABC):
    """Settings, a guarantee, and two ways to run; the algorithms are frozen dataclasses.

    Attributes:
        needs_reward: whether it ever asks the model for a likelihood.
        needs_proposal: whether it cannot do without a proposal.
        has_evidence: whether it estimates the evidence; without, that of its posteriors is None.
        independent_draws: whether its particles are independent draws from the prior, whatever
            their weights, so that pass@k can be estimated from them.
    """

    needs_reward: ClassVar[bool] = True
    needs_proposal: ClassVar[bool] = False
    has_evidence: ClassVar[bool] = True
    independent_draws: ClassVar[bool] = False

    @property
    @abstractmethod
    def guarantee(self) -> Guarantee:
        """The guarantee that holds for any number of particles, or `heuristic`."""

    @property
    def noted(self) -> Noted:
        """What the estimates of its posteriors have to know, among their metadata."""
        return {}

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
            model: the model to infer.
            observations: y_0, ..., y_{T-1}, None where one is missing. Without any the run ends
                when all particles have finished, or after `model.max_steps` steps.
            seed: repeats a run bit for bit; without one, every run is a new one.
        """
        return deque(self.iterate(model, observations, seed=seed), maxlen=1).pop()
