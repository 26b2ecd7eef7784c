"""Capabilities: the optional methods of a model, each a small protocol.

A model has a capability if it defines the methods. Where that depends on its settings, it says so
in `StateSpaceModel.supports`. A run asks once, at its start.
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Generator, Tensor


@runtime_checkable
class Finishes(Protocol):
    """Particles can be complete before the horizon."""

    def finished(self, state: Any) -> Bool[Tensor, " N"]:
        """Return which particles are complete: no longer extended, nor weighed again."""
        ...


@runtime_checkable
class Fails(Protocol):
    """Particles can fail to be drawn."""

    def failed(self, particles: Any) -> Bool[Tensor, " N"]:
        """Return which particles could not be drawn and have weight zero."""
        ...


@runtime_checkable
class Proposes(Protocol):
    """States can be drawn from a distribution that uses the observation."""

    def proposal(self, t: int, previous: Any, y: Any) -> Any:
        """Return a distribution of x_t given y_t; at t = 0, of one particle, with `previous` None.

        It must be positive wherever the product of transition and likelihood is positive.
        """
        ...


@runtime_checkable
class DrawsProposals(Protocol):
    """The same for a proposal that is no such distribution: the model draws from it."""

    def propose(
        self, t: int, previous: Any, y: Any, num_particles: int, *, generator: Generator
    ) -> tuple[Any, Tensor]:
        """Draw x_t from the proposal; consumes `generator`.

        Returns:
            The N states x_t, and `[N]` the log of transition over proposal density at each.
        """
        ...


@runtime_checkable
class LooksAhead(Protocol):
    """There is a guess at the next likelihood."""

    def log_lookahead(self, t: int, state: Any, y: Any) -> Tensor:
        """Return the log of a guess at the likelihood of y = y_{t+1} given the N states x_t, `[N]`.

        The guess decides which particles are resampled, never the estimates. It must be positive
        wherever the next likelihood can be positive.
        """
        ...


@runtime_checkable
class Twists(Protocol):
    """There is a guess at all later likelihoods."""

    def log_twist(self, t: int, state: Any, observations: Any) -> Tensor:
        """Return the log of a guess at the likelihood of all steps after t given x_t, `[N]`.

        It must be positive wherever that likelihood can be positive. A twisted filter divides the
        guess out at the end.
        """
        ...


@runtime_checkable
class RemembersPath(Protocol):
    """A state contains its whole past, so that the likelihood of all steps is known at once."""

    def path_log_likelihood(self, t: int, state: Any, observations: Any) -> Tensor:
        """Return the sum over s = 0..t of the log-likelihoods of step s, `[N]`.

        For particles that finished earlier, the sum ends with their last step; t may lie beyond the
        last step of all particles.
        """
        ...


@runtime_checkable
class Rewinds(Protocol):
    """Paths can be cut after any of their steps, and continued from there."""

    def num_steps(self, state: Any) -> Tensor:
        """Return how many steps each path has, `[N]`."""
        ...

    def rewind(self, state: Any, num_steps: Tensor) -> Any:
        """Return the paths after their first `num_steps[n]` steps; shortened paths are unfinished.

        `sample_transition` continues such a path, at t = 0 too.
        """
        ...


@runtime_checkable
class Splices(Protocol):
    """Paths can be continued by the steps of others."""

    def splice(self, state: Any, t: int, references: Any) -> Any:
        """Return the paths x_0, ..., x_{t-1}, each continued by the steps from t on of another.

        A finished path has no continuation; `log_prior` of such a splice is `-inf`.
        """
        ...

    def log_prior(self, state: Any) -> Tensor:
        """Return the log-probability of each path, `[N]`."""
        ...
