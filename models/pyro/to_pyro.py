r"""A model as a Pyro program of one trajectory, for Pyro's handlers, for NUTS and for SVI.

$$\theta \sim \text{prior}, \qquad x_0 \sim \text{initial}, \qquad x_t \sim
\text{transition}(t, x_{t-1}), \qquad y_t \sim \text{observation}(t, x_t).$$

Its sites are the parameters by their names, `x_0`, `x_1`, ..., and `y_0`, `y_1`, ...; of trees the
components, `x_0.level`. The log-density of a site is that of the model, term by term.
"""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch

from llmsmc.core import distributions
from llmsmc.core.capabilities import Finishes
from llmsmc.core.distributions import DistributionTree
from llmsmc.core.particles import components, map_populations
from llmsmc.core.priors import Prior, check_prior
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.errors import InputError


def to_pyro(
    model: StateSpaceModel,
    observations: Observations | None = None,
    *,
    prior: Prior | None = None,
) -> Callable[..., Any]:
    """Return a Pyro program that draws the parameters, the states and the observations.

    A state is a population of one, `[1, ...]`. The sites `y_t` have the law `observation`; if the
    model has none, they are factors with the value of `log_likelihood`. A path that has finished
    goes no further. Observations, or components of them, that are None have no site; without any
    observations, those that have a law are drawn.

    Args:
        model: the model; its `initial` and `transition` return distributions.
        observations: of all steps; else there are `max_steps` of them.
        prior: laws of attributes of the model, which are drawn first.

    Returns:
        The program. It takes other observations as its argument, and returns the states.

    >>> from llmsmc.models import StochasticVolatility
    >>> program = to_pyro(StochasticVolatility(), [0.1, -0.3])
    >>> trace = pyro.poutine.trace(program).get_trace()
    >>> [name for name in trace.nodes if name[1] == "_" and name[0] in "xy"]
    ['x_0', 'y_0', 'x_1', 'y_1']
    """
    if prior is not None:
        check_prior(prior)
        model.with_parameters({name: torch.empty(0) for name in prior})

    def program(observations: Observations | None = observations) -> list[Any]:
        drawn = {name: pyro.sample(name, _whole(law)) for name, law in (prior or {}).items()}
        return _path(model.with_parameters(drawn), observations)

    return program


def _path(model: StateSpaceModel, observations: Observations | None) -> list[Any]:
    """Draw a path and observe it."""
    states: list[Any] = []
    finishing: Any = model if model.supports(Finishes) else None
    for t in range(_num_steps(model, observations)):
        previous = states[-1] if states else None
        law = model.transition(t, previous) if states else model.initial()
        states.append(_sample(f"x_{t}", law, previous))
        _observe(model, t, previous, states[-1], observations)
        if finishing is not None and bool(finishing.finished(states[-1]).all()):
            break
    return states


def _num_steps(model: StateSpaceModel, observations: Observations | None) -> int:
    if observations is not None:
        return len(observations)
    if model.max_steps is None:
        raise InputError(
            "A program without observations needs an end. Got a model without `max_steps`; "
            "accepted: a model that has it, or observations."
        )
    return model.max_steps


def _sample(name: str, law: DistributionTree, previous: Any) -> Any:
    """Draw a state, component by component, as a population of one."""
    one = distributions.batched(law, 1, previous)
    drawn = [pyro.sample(_joined(name, rest), _whole(part)) for rest, (part,) in components(one)]
    values = iter(drawn)
    return map_populations(lambda _: next(values), one)


def _observe(
    model: StateSpaceModel, t: int, previous: Any, state: Any, observations: Observations | None
) -> None:
    """Observe a state, by the law of the observation if the model has one."""
    if type(model).observation is StateSpaceModel.observation:
        y = None if observations is None else observations[t]
        pyro.factor(f"y_{t}", model.log_likelihood(t, previous, state, y).sum())
        return
    law = model.observation(t, state)
    if observations is None:
        for rest, (part,) in components(law):
            pyro.sample(_joined(f"y_{t}", rest), _whole(part))
        return
    for rest, part, value in distributions.observed(law, observations[t], t):
        value = value.expand(part.batch_shape + part.event_shape)
        pyro.sample(_joined(f"y_{t}", rest), _whole(part), obs=value)


def _whole(law: Any) -> Any:
    """Return the law as that of a single value, none of whose dimensions is a batch."""
    return dist.Independent(law, len(law.batch_shape))


def _joined(name: str, rest: str) -> str:
    return f"{name}.{rest}" if rest else name
