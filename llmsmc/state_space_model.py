r"""State-space models: what there is to infer.

$$x_0 \sim \text{initial}, \qquad x_t \sim \text{transition}(t, x_{t-1}), \qquad
y_t \sim \text{observation}(t, x_t)$$

A model is three methods that return distributions. The algorithms do not call these three but
the methods built on them (`sample_initial`, `sample_transition`, `log_likelihood`, ...), which a
model may override instead, when its states are not tensors or its laws not distributions.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.distributions import Distribution

from llmsmc.cost import Cost
from llmsmc.errors import InputError
from llmsmc.particles import num_particles
from llmsmc.randomness import sample

Observations = Sequence[Any] | Tensor | NDArray[Any]
"""The observations y_0, y_1, ..., any of which may be None where it is missing."""

Truncated = Literal["keep", "reject"]
"""What becomes of the particles that a run without observations cuts off unfinished.

* `keep`: they stay with the weights they have; the target is that of the last step.
* `reject`: they get weight zero; the target is conditioned on finishing, and the evidence is that
  of the finished particles alone.
"""


class StateSpaceModel:
    """A state-space model with N particles side by side in the first dimension.

    A state is a tensor `[N, ...]`, or anything that `llmsmc.particles` can gather.

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

    Attributes:
        max_steps: number of steps of a run without observations; None if only `finished` ends it.
        remembers_path: whether a state contains its whole past, so that the model can give the
            likelihood of all steps at once, in `path_log_likelihood`.
    """

    max_steps: int | None = None
    remembers_path: bool = False

    # What a model is.

    def initial(self) -> Distribution:
        """Return the law of x_0, of a single particle."""
        raise NotImplementedError(f"{type(self).__name__} does not define `initial`.")

    def transition(self, t: int, previous: Any) -> Distribution:
        """Return the law of x_t given the N states x_{t-1}; t >= 1."""
        raise NotImplementedError(f"{type(self).__name__} does not define `transition`.")

    def observation(self, t: int, state: Any) -> Distribution:
        """Return the law of y_t given the N states x_t."""
        raise NotImplementedError(f"{type(self).__name__} does not define `observation`.")

    def finished(self, state: Any) -> Bool[Tensor, " N"]:
        """Return which particles are complete: no longer extended, nor weighed again."""
        return torch.zeros(num_particles(state), dtype=torch.bool)

    def log_likelihood(self, t: int, previous: Any, state: Any, y: Any) -> Tensor:
        """Return log p(y_t given x_t) for each particle, `[N]`; `previous` is None at t = 0.

        As it stands: the log-density of `observation`, summed over the dimensions of y, and zero
        where y is None, an observation that is missing. Override it in place of `observation`
        where the likelihood has no observation, or sees the previous state as well.
        """
        count = num_particles(state)
        if y is None:
            return torch.zeros(count, dtype=torch.float64)
        return _log_density(self.observation(t, state), torch.as_tensor(y), count, t)

    # What some algorithms can use besides.

    def proposal(self, t: int, previous: Any, y: Any) -> Distribution:
        """Return a law of x_t that knows y_t; `previous` is None at t = 0, for a single particle.

        It is positive wherever the product of transition and likelihood is.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `proposal`.")

    def log_lookahead(self, t: int, state: Any, y: Any) -> Tensor:
        """Return the log of a guess at how likely y is, which is y_{t+1}, after the N states x_t.

        The guess decides who is resampled, never what is estimated; it is positive wherever the
        likelihood of what comes can be.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `log_lookahead`.")

    def log_twist(self, t: int, state: Any, observations: Observations | None) -> Tensor:
        """Return the log of a guess at how likely all that comes after step t is, `[N]`.

        It is positive wherever that can be; a twisted filter corrects for it at the end.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `log_twist`.")

    # What the algorithms call.

    def sample_initial(self, num_particles: int, *, generator: Generator) -> Any:
        """Draw N particles x_0; consumes `generator`."""
        return sample(self.initial(), (num_particles,), generator)

    def sample_transition(self, t: int, previous: Any, *, generator: Generator) -> Any:
        """Draw x_t for each of the N particles x_{t-1}; consumes `generator`."""
        law = self.transition(t, previous)
        return sample(law, _missing_batch(law, previous), generator)

    def propose(
        self, t: int, previous: Any, y: Any, num_particles: int, *, generator: Generator
    ) -> tuple[Any, Tensor]:
        """Draw x_t from the proposal; consumes `generator`.

        Returns:
            The N states x_t, and `[N]` the log of transition over proposal density at each.
        """
        law = self.proposal(t, previous, y)
        shape = (num_particles,) if previous is None else _missing_batch(law, previous)
        state = sample(law, shape, generator)
        return state, self.log_transition(t, previous, state) - _density(law, state)

    def log_transition(self, t: int, previous: Any, state: Any) -> Tensor:
        """Return the log-density of x_t given x_{t-1}, `[N]`; at t = 0 that of `initial`."""
        return _density(self.initial() if previous is None else self.transition(t, previous), state)

    def can_propose(self) -> bool:
        """Return whether the model defines a proposal, as a law or by `propose`."""
        mine, base = type(self), StateSpaceModel
        return mine.proposal is not base.proposal or mine.propose is not base.propose

    def can_look_ahead(self) -> bool:
        """Return whether the model defines a lookahead."""
        return type(self).log_lookahead is not StateSpaceModel.log_lookahead

    def can_twist(self) -> bool:
        """Return whether the model defines a twist."""
        return type(self).log_twist is not StateSpaceModel.log_twist

    def mode_initial(self, num_particles: int) -> Any:
        """Return N copies of the most probable x_0."""
        mode = _mode(self.initial())
        return mode.expand(num_particles, *mode.shape).clone()

    def mode_transition(self, t: int, previous: Any) -> Any:
        """Return the most probable x_t for each of the N particles x_{t-1}."""
        law = self.transition(t, previous)
        mode = _mode(law)
        return mode.expand(*_missing_batch(law, previous), *mode.shape).clone()

    def path_log_likelihood(self, t: int, state: Any, observations: Observations | None) -> Tensor:
        """Return the sum over s = 0..t of the log-likelihoods of step s, `[N]`.

        Called only on models that declare `remembers_path`. Particles that finished earlier
        count the steps up to that one.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `path_log_likelihood`.")

    def num_steps(self, state: Any) -> Tensor:
        """Return how many steps each path has, `[N]`; for models that can be rewound."""
        raise NotImplementedError(f"{type(self).__name__} does not define `num_steps`.")

    def rewind(self, state: Any, num_steps: Tensor) -> Any:
        """Return the paths after their first `num_steps[n]` steps, unfinished where steps went.

        From there `sample_transition` goes on, at t = 0 too. For models that remember the path.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `rewind`.")

    def splice(self, state: Any, t: int, references: Any) -> Any:
        """Return the paths x_0, ..., x_{t-1}, each continued by the steps from t on of another.

        For models that remember the path; a path that has finished has no continuation, which
        `log_prior` says by `-inf`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `splice`.")

    def log_prior(self, state: Any) -> Tensor:
        """Return the log-probability of each path, `[N]`; for models that remember the path."""
        raise NotImplementedError(f"{type(self).__name__} does not define `log_prior`.")

    def identities(self, state: Any) -> Sequence[Hashable]:
        """Return N keys, equal where states are the same in all that the future depends on.

        As it stands, for tensors: the values.
        """
        if not isinstance(state, Tensor):
            raise InputError(
                f"Identical particles are told by their keys. Got states of type "
                f"{type(state).__name__}; accepted: tensors, or models with `identities`."
            )
        return [tuple(row) for row in state.reshape(len(state), -1).tolist()]

    def can_rewind(self) -> bool:
        """Return whether the model defines `rewind`."""
        return type(self).rewind is not StateSpaceModel.rewind

    def truncated(self, particles: Any) -> Bool[Tensor, " N"]:
        """Return which particles a run without observations has cut off at its last step.

        These are the unfinished ones, if the model can finish at all; else the horizon is its
        natural end.
        """
        if not self.can_finish():
            return torch.zeros(num_particles(particles), dtype=torch.bool)
        return ~self.finished(particles)

    def can_finish(self) -> bool:
        """Return whether the model says of some states that they are finished."""
        return type(self).finished is not StateSpaceModel.finished

    def record(self, particles: Any) -> Any:
        """Return the population to be kept in the posterior, without caches and the like."""
        return particles

    def cost(self) -> Cost:
        """Return what the model has cost so far, over all its runs."""
        return Cost()


def _missing_batch(law: Distribution, previous: Any) -> tuple[int, ...]:
    """Return `(N,)` where the transition does not depend on the N previous states."""
    shape = law.batch_shape + law.event_shape
    if isinstance(previous, Tensor) and len(shape) < previous.dim():
        return (num_particles(previous),)
    return ()


def _density(law: Distribution, state: Tensor) -> Tensor:
    """Return the log-density of each of the N states, `[N]`."""
    return law.log_prob(state).reshape(len(state), -1).sum(1)


def _mode(law: Distribution) -> Tensor:
    try:
        return law.mode
    except NotImplementedError as error:
        raise InputError(
            f"A greedy run follows the modes of the laws. Got a {type(law).__name__}, which has "
            "none; accepted: distributions with a `mode`, or models with `mode_transition`."
        ) from error


def _log_density(law: Distribution, y: Tensor, count: int, t: int) -> Tensor:
    """Return log p(y_t), `[N]`, for N independent laws of the whole of y_t."""
    num_event_dims = len(law.event_shape) + max(len(law.batch_shape) - 1, 0)
    if y.dim() > num_event_dims:
        raise InputError(
            f"An observation is a single y_t. Got shape {tuple(y.shape)} at step {t}, for an "
            f"observation law with batch shape {tuple(law.batch_shape)} and event shape "
            f"{tuple(law.event_shape)}; accepted: at most {num_event_dims} dimensions."
        )
    try:
        density = law.log_prob(y)
    except (ValueError, RuntimeError) as error:  # how torch says that y is no value of the law
        raise InputError(
            f"The observation of step {t} is no value of its law. Got {y.tolist()!r}; accepted: "
            f"event shape {tuple(law.event_shape)}, {law.support}; None where it is missing."
        ) from error
    return density.expand(count) if density.dim() == 0 else density.reshape(count, -1).sum(1)
