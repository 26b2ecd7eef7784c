r"""State-space models, the objects of inference.

$$x_0 \sim \text{initial}, \qquad x_t \sim \text{transition}(t, x_{t-1}), \qquad
y_t \sim \text{observation}(t, x_t)$$

A model defines three methods that return distributions, or trees of distributions whose components
are independent given the previous state (`llmsmc.core.distributions`). Algorithms do not call these
three; they call the methods built on them (`sample_initial`, `sample_transition`, `log_likelihood`,
...). A model whose dynamics are not given by such distributions overrides those methods instead.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmsmc.core import distributions
from llmsmc.core.capabilities import Finishes, RemembersPath
from llmsmc.core.cost import Cost
from llmsmc.core.distributions import DistributionTree
from llmsmc.core.particles import components, num_particles
from llmsmc.core.priors import with_attributes
from llmsmc.errors import InputError

Observations = Sequence[Any] | Tensor | NDArray[Any]
"""The observations y_0, y_1, ..., any of which may be None where it is missing."""

Truncated = Literal["keep", "reject"]
"""The rule for particles that a run without observations cuts off unfinished.

* `keep`: they keep their weights; the target is the target of the last step.
* `reject`: they get weight zero; the target is conditioned on finishing, and the evidence counts
  the finished particles alone.
"""


_NOTHING = Cost()


class StateSpaceModel:
    """A state-space model with N particles side by side in the first dimension.

    A state is a tensor `[N, ...]`, a tuple, named tuple, dict or dataclass of states, or anything
    else that `llmsmc.core.particles` can gather.

    >>> import pyro.distributions as dist
    >>> class LocalLevel(StateSpaceModel):
    ...     def initial(self):
    ...         return dist.Normal(0.0, 1.0)
    ...
    ...     def transition(self, t, previous):
    ...         return dist.Normal(previous, 0.5)
    ...
    ...     def observation(self, t, state):
    ...         return dist.Normal(state, 1.0)

    Optional methods, such as `proposal`, `finished` or `rewind`, are described in
    `llmsmc.core.capabilities`: a model that defines them has the capability.

    Attributes:
        max_steps: number of steps of a run without observations; None if only `finished` ends it.
    """

    max_steps: int | None = None

    # The model itself.

    def initial(self) -> DistributionTree:
        """Return the distribution of x_0, of a single particle; `to_event` declares dimensions."""
        raise NotImplementedError(f"{type(self).__name__} does not define `initial`.")

    def transition(self, t: int, previous: Any) -> DistributionTree:
        """Return the distribution of x_t given the N states x_{t-1}; t >= 1."""
        raise NotImplementedError(f"{type(self).__name__} does not define `transition`.")

    def observation(self, t: int, state: Any) -> DistributionTree:
        """Return the distribution of y_t given the N states x_t."""
        raise NotImplementedError(f"{type(self).__name__} does not define `observation`.")

    def log_likelihood(self, t: int, previous: Any, state: Any, y: Any) -> Tensor:
        """Return log p(y_t given x_t) for each particle, `[N]`; `previous` is None at t = 0.

        By default this is the log-density of `observation`, summed over components and dimensions
        of y; a missing observation (None), or a missing component of one, counts as zero. Override
        this method in place of `observation` where the likelihood has no observation, or depends on
        the previous state as well.
        """
        count = num_particles(state)
        if y is None:
            return torch.zeros(count, dtype=torch.float64)
        return distributions.log_density_of_observation(self.observation(t, state), y, count, t)

    def observe(self, t: int, previous: Any, state: Any, y: Any) -> tuple[Any, Tensor]:
        """Return the N states x_t and their log-likelihoods, `[N]`; algorithms keep these states.

        By default the states are the given ones. A model whose states carry results of the
        observation, such as scores or caches, overrides this method and returns new states.
        """
        return state, self.log_likelihood(t, previous, state, y)

    # Methods that algorithms call.

    def supports(self, capability: type) -> bool:
        """Return whether the model has a capability, a protocol of `llmsmc.core.capabilities`.

        By default it has those whose methods it defines. A model for which this depends on its
        settings overrides this method.
        """
        return isinstance(self, capability)

    def with_parameters(self, values: Mapping[str, Tensor]) -> "StateSpaceModel":
        """Return a copy of the model with other values of its parameters.

        By default, parameters are attributes of the model.

        Raises:
            InputError: the model has no parameter of one of the names.
        """
        return with_attributes(self, values)

    def given(self, observations: Observations | None) -> "StateSpaceModel":
        """Return the model as a run on these observations uses it.

        By default this is the model itself. A model whose states depend on the observations
        overrides this method.
        """
        return self

    def sample_initial(self, num_particles: int, *, generator: Generator) -> Any:
        """Draw N particles x_0; consumes `generator`."""
        return distributions.sample(self.initial(), num_particles, generator=generator)

    def sample_transition(self, t: int, previous: Any, *, generator: Generator) -> Any:
        """Draw x_t for each of the N particles x_{t-1}; consumes `generator`."""
        law, count = self.transition(t, previous), num_particles(previous)
        return distributions.sample(law, count, previous, generator=generator)

    def log_transition(self, t: int, previous: Any, state: Any) -> Tensor:
        """Return the log-density of x_t given x_{t-1}, `[N]`; at t = 0 that of `initial`."""
        law = self.initial() if previous is None else self.transition(t, previous)
        return distributions.log_density(law, state)

    def mode_initial(self, num_particles: int) -> Any:
        """Return N copies of the most probable x_0."""
        return distributions.mode(self.initial(), num_particles)

    def mode_transition(self, t: int, previous: Any) -> Any:
        """Return the most probable x_t for each of the N particles x_{t-1}."""
        return distributions.mode(self.transition(t, previous), num_particles(previous), previous)

    def coordinates(self, state: Any) -> Any:
        """Return the real numbers that the N states are made from, a tree of tensors `[N, ...]`.

        By default these are the states themselves.
        """
        return state

    def at_coordinates(self, t: int, previous: Any, coordinates: Any) -> Any:
        """Return the N states x_t with these coordinates, given x_{t-1}."""
        return coordinates

    def observe_path(
        self, t: int, state: Any, observations: Observations | None
    ) -> tuple[Any, Tensor]:
        """Return the N paths and `path_log_likelihood` of them; `observe` for whole paths."""
        return state, cast(RemembersPath, self).path_log_likelihood(t, state, observations)

    def survives(self, t: int, state: Any, since: int = 0) -> Bool[Tensor, " N"]:
        """Return which paths of step t had a likelihood above zero after each of their steps.

        A filter and its moves lose the other paths on the way. By default all paths survive, which
        is right where later steps cannot undo a likelihood of zero, so that the path's own
        likelihood is zero too. For models that remember the path.

        Args:
            t: the step; it may lie beyond the last step of all.
            state: the paths.
            since: number of first steps that the paths are known to have survived.
        """
        return torch.ones(num_particles(state), dtype=torch.bool)

    def check_splice(self) -> None:
        """Raise `InputError` if `splice` is not possible; called before a run begins."""

    def identities(self, state: Any) -> Sequence[Hashable]:
        """Return N keys; equal keys mean that the states have the same future.

        By default the keys are the values, for tensors and trees of tensors.
        """
        columns = []
        for _, (values,) in components(state):
            if not isinstance(values, Tensor):
                raise InputError(
                    f"Identical particles are told by their keys. Got states of type "
                    f"{type(values).__name__}; accepted: tensors, trees of them, or models with "
                    "`identities`."
                )
            columns.append([tuple(row) for row in values.reshape(len(values), -1).tolist()])
        return list(zip(*columns, strict=True))

    def truncated(self, particles: Any) -> Bool[Tensor, " N"]:
        """Return which particles a run without observations has cut off at its last step.

        These are the unfinished particles if the model can finish at all. Otherwise the horizon is
        the natural end, and none are cut off.
        """
        if not self.supports(Finishes):
            return torch.zeros(num_particles(particles), dtype=torch.bool)
        return ~cast(Finishes, self).finished(particles)

    def record(self, particles: Any) -> Any:
        """Return the population that the posterior keeps, without caches."""
        return particles

    def donate(self, particles: Any) -> Any:
        """Donate the caches of these particles: they are extended for the last time.

        Other populations that share the caches stay valid, but recompute what was cached.
        """
        return particles

    def cost(self) -> Cost:
        """Return the cost of the model so far, over all its runs."""
        return _NOTHING
