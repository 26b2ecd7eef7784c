"""Distributions: a distribution, or a tree of distributions whose components are independent.

A tree of distributions is a tuple, list, named tuple, dict or dataclass of distributions. A draw
from it is the same tree with a tensor in place of each distribution; its log-density is the sum of
the log-densities of the components.

Particles stand side by side by broadcasting. The distribution of a component has a batch dimension
for N particles if it depends on any of them; a distribution with fewer dimensions belongs to each
particle.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Transform, constraints

from llmsmc.core import randomness
from llmsmc.core.particles import children, components, is_tree, map_populations
from llmsmc.errors import InputError

DistributionTree = Any
"""A distribution, or a tree of distributions."""

_NORMAL = (
    torch.distributions.MultivariateNormal,
    torch.distributions.LowRankMultivariateNormal,
)

_MOST_SHOWN = 8


def sample(
    law: DistributionTree, num_particles: int, previous: Any = None, *, generator: Generator
) -> Any:
    """Draw N states; consumes `generator`.

    Args:
        law: the law of one particle if there are no previous states, else of N (see the module).
        num_particles: N.
        previous: the N previous states, with the same components; None if there are none.
        generator: the source of randomness.

    Raises:
        InputError: the law of one particle has N of them already.
    """

    def draw(law: Distribution, previous: Any) -> Tensor:
        return randomness.sample(law, _missing_batch(law, num_particles, previous), generator)

    return _mapped(draw, law, previous)


def mode(law: DistributionTree, num_particles: int, previous: Any = None) -> Any:
    """Return N copies of the most probable state, or the most probable states given `previous`.

    Raises:
        InputError: a distribution has no mode.
    """

    def choose(law: Distribution, previous: Any) -> Tensor:
        value = most_probable(law)
        shape = _missing_batch(law, num_particles, previous)
        return value.expand(*shape, *value.shape).clone()

    return _mapped(choose, law, previous)


def batched(law: DistributionTree, num_particles: int, previous: Any = None) -> DistributionTree:
    """Return the laws of N states; a law of a single particle is expanded to all of them."""

    def expand(law: Distribution, previous: Any) -> Distribution:
        shape = _missing_batch(law, num_particles, previous)
        return law.expand(shape + law.batch_shape) if shape else law

    return _mapped(expand, law, previous)


def most_probable(law: Distribution) -> Tensor:
    """Return the mode of a distribution, `batch_shape + event_shape`.

    Raises:
        InputError: the distribution has no mode.
    """
    try:
        return law.mode
    except NotImplementedError as error:
        raise InputError(
            f"A greedy run follows modes. Got a {type(law).__name__}, which has none; "
            "accepted: distributions with a `mode`, or models with `mode_transition`."
        ) from error


def log_density(law: DistributionTree, state: Any) -> Tensor:
    """Return the log-density of each of the N states, `[N]`, summed over the components.

    It is `-inf` for a state outside the support of its law.
    """
    densities = [
        log_prob(law, value).reshape(len(value), -1).sum(1)
        for _, (law, value) in components(law, state)
    ]
    return _sum(densities)


def log_prob(law: Distribution, value: Tensor) -> Tensor:
    """Return the log-density of values that may lie outside the support, where it is `-inf`.

    Raises:
        ValueError: the values have another shape than the law, or are NaN.
    """
    try:
        density: Tensor = law.log_prob(value)
    except ValueError:  # also of laws with a value that others have not
        if not _fits(law, value) or bool(value.isnan().any()):
            raise
        supported = _supported(law, value)
        if not bool(supported.any()):
            return torch.full(supported.shape, -math.inf, device=supported.device)
        # Indices beyond a table cannot be looked up: values of other laws stand in their places.
        rows = supported.reshape(supported.shape + (1,) * len(law.event_shape))
        value = value.expand(supported.shape + law.event_shape)
        density = _unchecked(law).log_prob(torch.where(rows, value, value[supported][0]))
        return density.masked_fill(~supported, -math.inf)
    return density


def log_density_of_observation(law: DistributionTree, y: Any, num_particles: int, t: int) -> Tensor:
    """Return log p(y_t), `[N]`, for N independent laws of the whole of y_t.

    It is `-inf` for particles whose law excludes y_t, where the support depends on the particle.

    Raises:
        InputError: y_t, or a component of it, is outside the support that all particles share, or
            has another shape; or the law is one of another number of particles.
    """
    densities = []
    for name, part, value in observed(law, y, t):
        step = f"step {t}{name and f' ({name})'}"
        if part.batch_shape[:1] not in ((), (num_particles,)):
            raise InputError(
                f"The law of an observation has a row for each particle. Got batch shape "
                f"{tuple(part.batch_shape)} at {step} for {num_particles} particles; accepted: "
                f"a batch shape that begins with {num_particles}, or a law without particles, with "
                "`to_event` where an observation is several numbers."
            )
        try:
            density = validated_log_prob(part, value)
        except (ValueError, RuntimeError) as error:  # how torch says that y is no value of the law
            raise InputError(
                f"The observation of {step} is no value of its law. Got {shown(value)}; "
                f"accepted: {described(part)}; None in place of it, or of single numbers of it, "
                "where they are missing."
            ) from error
        is_one_number = density.dim() == 0
        densities.append(
            density.expand(num_particles)
            if is_one_number
            else density.reshape(num_particles, -1).sum(1)
        )
    return _sum(densities) if densities else torch.zeros(num_particles, dtype=torch.float64)


def validated_log_prob(law: Distribution, value: Tensor) -> Tensor:
    """Return the log-density of a value, after checking that it is a value of the law.

    The check is explicit, since `torch.compile` disables the checks of all distributions made
    later. Where the support depends on parameters of the law, laws of a batch that exclude the
    value give it density zero.

    Raises:
        ValueError: the value is outside the support or shape of the law.
    """
    if value.dtype == torch.bool:  # torch subtracts, which Booleans refuse
        value = value.to(torch.get_default_dtype())
    try:
        law._validate_sample(value)
        density: Tensor = law.log_prob(value)
    except ValueError:
        if not _may_be_excluded(law, value):
            raise
        density = log_prob(law, value)
    return density


def _may_be_excluded(law: Distribution, value: Tensor) -> bool:
    """Return whether a value outside the support is none of some particles, and no mistake."""
    if not _fits(law, value) or bool(value.isnan().any()):
        return False
    supported = _supported(law, value)
    some = supported.any(0) if supported.dim() else supported
    support: Any = law.support
    is_whole = not support.is_discrete or bool((value == value.floor()).all())
    return bool(some.all()) or is_whole and _has_supports(law)


def _has_supports(law: Distribution) -> bool:
    """Return whether each law of a batch has a support of its own."""
    bounds = [bound for part in _parts_of(law) for bound in _bounds(part)]
    is_batch = len(law.batch_shape) > 0
    return is_batch and any(isinstance(bound, Tensor) and bound.dim() > 0 for bound in bounds)


def _parts_of(law: Any) -> Iterator[Any]:
    """Yield a law, and the laws and transforms that it is made from."""
    yield law
    for part in vars(law).values():
        if isinstance(part, Distribution):
            yield from _parts_of(part)
        elif isinstance(part, list):
            yield from (other for other in part if isinstance(other, Transform))


def _bounds(part: Any) -> Iterator[Any]:
    """Yield the parameters of a transform, or of the support of a law."""
    support = part if isinstance(part, Transform) else part.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    yield from vars(support).values()


def _supported(law: Any, value: Tensor) -> Tensor:
    """Return which laws of a batch have a value in their support."""
    supported: Tensor
    if isinstance(law, torch.distributions.Independent):
        supported, num_dims = _supported(law.base_dist, value), law.reinterpreted_batch_ndims
        return supported.flatten(-num_dims).all(-1) if num_dims else supported
    if isinstance(law, dist.MaskedDistribution):
        return _supported(law.base_dist, value) | ~torch.as_tensor(law._mask)
    supported = law.support.check(value)
    if isinstance(law, torch.distributions.TransformedDistribution):
        for transform in reversed(law.transforms):
            value = transform.inv(value)
        supported = supported & _supported(law.base_dist, value)
    return supported


def _unchecked(law: Distribution) -> Distribution:
    """Return the law without checks of values, its own and those of the laws in it."""
    copied = copy.copy(law)
    for name, part in vars(law).items():
        if isinstance(part, Distribution):
            setattr(copied, name, _unchecked(part))
    copied._validate_args = False
    return copied


def described(law: Distribution) -> str:
    """Return what values a law accepts, in words for an error."""
    support: Any = law.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    bounds = [f"{name}={shown(bound)}" for name, bound in vars(support).items() if name[:1] != "_"]
    name = type(support).__name__.strip("_")
    return f"event shape {tuple(law.event_shape)}, {name}({', '.join(bounds)})"


def shown(value: Any) -> str:
    """Return a value in a line, with the range of the numbers where they are many."""
    if not isinstance(value, Tensor):
        return repr(value)
    if value.numel() <= _MOST_SHOWN:
        return repr(value.tolist())
    low, high = float(value.min()), float(value.max())
    return f"{value.numel()} numbers from {low:g} to {high:g}, of shape {tuple(value.shape)}"


def observed(law: DistributionTree, y: Any, t: int) -> Iterator[tuple[str, Distribution, Tensor]]:
    """Yield the components of y_t that are observed, that is, not None.

    Single numbers of a component may be missing as well: None, or NaN where the law treats NaN as
    missing.

    Yields:
        The name of the component, as in `llmsmc.core.particles.components`; the law of its observed
        numbers; their value.

    Raises:
        InputError: y_t does not have the components of its law, or is more than one observation.
    """
    if y is None:
        return
    if is_tree(law):
        for name, part in children(law).items():
            for rest, distribution, value in observed(part, _parts(law, y, t)[name], t):
                yield f"{name}.{rest}" if rest else str(name), distribution, value
        return
    value, present = with_gaps(y)
    shape = law.batch_shape[1:] + law.event_shape
    if value.dim() < len(shape) and value.numel() == math.prod(shape) == 1:
        value, present = value.reshape(shape), None if present is None else present.reshape(shape)
    batch = value.shape[: max(value.dim() - len(law.event_shape), 0)]
    if value.dim() > len(shape) or (batch != law.batch_shape[1:] and _fits(law, value)):
        raise InputError(
            f"An observation is a single y_t, with one number for each of its law. Got shape "
            f"{tuple(value.shape)} at step {t}, for an observation law with batch shape "
            f"{tuple(law.batch_shape)} and event shape {tuple(law.event_shape)}; accepted: shape "
            f"{tuple(shape)}."
        )
    if accepts_nan(law):
        present = ~value.isnan() if present is None else present & ~value.isnan()
    if present is None or bool(present.any()) or not _fits(law, value):
        yield "", *in_part(law, value, present)


def with_gaps(y: Any, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor | None]:
    """Return an observation as a tensor, with a mask of its observed numbers; None for all.

    Missing numbers, written as None or masked in an array of NumPy, get the value of an observed
    one.

    Raises:
        InputError: it holds something other than numbers, or its rows differ in length.
    """
    if isinstance(y, Tensor):
        return y.to(dtype or y.dtype), None
    plain = y
    if hasattr(y, "__array__"):  # of NumPy or pandas
        plain = np.asanyarray(y)
        if plain.dtype == object or isinstance(plain, np.ma.MaskedArray):
            plain = plain.tolist()
    try:
        if isinstance(plain, np.ndarray):
            return torch.tensor(plain, dtype=dtype), None  # a copy, as some may not be written to
        shape = _shape(plain)
        numbers = list(_numbers(plain, shape))
        there = [number for number in numbers if number is not None]
        filled = [there[0] if number is None else number for number in numbers] if there else [0.0]
        if any(isinstance(number, complex) for number in there):
            raise ValueError("complex numbers")
        values = torch.as_tensor(filled, dtype=dtype).expand(math.prod(shape)).reshape(shape)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"An observation is made of numbers. Got {y!r}; accepted: a number, or a tensor, an "
            "array or lists of them with rows of one length; None where they are missing."
        ) from error
    if len(there) == len(numbers):
        return values, None
    return values, torch.tensor([number is not None for number in numbers]).reshape(shape)


def _shape(y: Any) -> tuple[int, ...]:
    if isinstance(y, list | tuple):
        return (len(y), *_shape(next((part for part in y if part is not None), 0.0)))
    return np.shape(y)


def _numbers(y: Any, shape: tuple[int, ...]) -> Iterator[Any]:
    """Yield the numbers of nested lists; a None stands for all numbers of its place.

    Raises:
        ValueError: the lists have another shape.
    """
    if y is None:
        yield from [None] * math.prod(shape)
    elif isinstance(y, list | tuple) and shape[:1] == (len(y),):
        for part in y:
            yield from _numbers(part, shape[1:])
    elif isinstance(y, list | tuple) or np.shape(y) != shape:
        raise ValueError("rows of different lengths")
    else:
        yield from y.reshape(-1).tolist() if shape else [y]


def accepts_nan(law: Distribution) -> bool:
    """Return whether the law treats NaN as a missing number."""
    while hasattr(law, "base_dist"):
        law = law.base_dist
    return isinstance(law, dist.NanMaskedNormal | dist.NanMaskedMultivariateNormal)


def in_part(
    law: Distribution, value: Tensor, present: Tensor | None
) -> tuple[Distribution, Tensor]:
    """Return the law of the observed numbers, and their value.

    For a multivariate normal law this is the marginal; for independent numbers, the law in which
    missing numbers have density one. A value with another shape than the law is returned with the
    law, which refuses it.

    Raises:
        InputError: the numbers depend on each other in another way.
    """
    if present is None or bool(present.all()) or not _fits(law, value):
        return law, value
    if not bool(present.any()):
        return dist.Unit(torch.zeros(law.batch_shape)), torch.empty(0)
    base, num_dims = law, 0
    while isinstance(base, torch.distributions.Independent):
        base, num_dims = base.base_dist, num_dims + base.reinterpreted_batch_ndims
    if base.event_shape == ():
        filled = torch.where(present, value, value[present].reshape(-1)[0])
        return dist.Independent(dist.MaskedDistribution(base, present), num_dims), filled
    if isinstance(base, _NORMAL):
        rows = present.reshape(-1, present.shape[-1])
        covariance = base.covariance_matrix
        if bool((rows == rows[0]).all()):
            kept = rows[0].nonzero().squeeze(1)
            covariance = covariance.index_select(-2, kept).index_select(-1, kept)
            marginal = dist.MultivariateNormal(base.loc.index_select(-1, kept), covariance)
            return dist.Independent(marginal, num_dims), value.index_select(-1, kept)
        gaps = torch.where(present, value.to(base.loc.dtype), torch.nan)
        return dist.Independent(_NanMasked(base.loc, covariance), num_dims), gaps
    raise InputError(
        f"Numbers of an observation can be missing where they are independent, or normal. Got "
        f"{int((~present).sum())} of {present.numel()} missing, of a {type(base).__name__}; "
        "accepted: laws of single numbers with `to_event`, MultivariateNormal; None in place of "
        "the whole observation."
    )


def _fits(law: Distribution, value: Tensor) -> bool:
    """Return whether the value has the shape of the law, up to broadcasting of the batch."""
    batch, event = value.shape[: value.dim() - len(law.event_shape)], law.event_shape
    sizes = zip(reversed(batch), reversed(law.batch_shape), strict=False)
    return value.shape[len(batch) :] == event and all(
        one == other or 1 in (one, other) for one, other in sizes
    )


class _AnyNumber(constraints.Constraint):
    """Numbers, and NaN."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return torch.ones(value.shape[:-1], dtype=torch.bool, device=value.device)


class _NanMasked(dist.NanMaskedMultivariateNormal):
    """A multivariate normal law that also accepts NaN, as missing, when it checks its values."""

    support = _AnyNumber()  # type: ignore[assignment]


def _parts(law: DistributionTree, y: Any, t: int) -> dict[Any, Any]:
    """Return the components of y_t under the names of the components of its law."""
    named = children(law)
    if isinstance(y, Mapping):
        parts = dict(y)
    elif is_tree(y):
        parts = children(y)
    else:
        parts = dict(enumerate(y)) if isinstance(y, Sequence | Tensor | np.ndarray) else {}
    if all(isinstance(name, int) for name in parts) and not isinstance(law, dict):
        parts = dict(zip(named, parts.values(), strict=False)) if len(parts) == len(named) else {}
    if parts.keys() != named.keys():
        raise InputError(
            f"An observation has the components of its law. Got {y!r} at step {t}; accepted: "
            f"{list(named)}, each of which may be None where it is missing."
        )
    return parts


def _mapped(function: Callable[..., Any], law: DistributionTree, previous: Any) -> Any:
    """Apply `function` to the distributions, each with the component of the previous states."""
    if previous is None or not is_tree(law):
        return map_populations(lambda part: function(part, previous), law)
    return map_populations(function, law, previous)


def _missing_batch(law: Distribution, num_particles: int, previous: Any) -> tuple[int, ...]:
    """Return `(N,)` where the law is that of a single particle."""
    if previous is None:
        if num_particles > 1 and law.batch_shape[:1] == (num_particles,):
            raise InputError(
                "The law of x_0 is that of a single particle, from which all are drawn. Got batch "
                f"shape {tuple(law.batch_shape)} for {num_particles} particles; accepted: a law "
                f"without a dimension for them, and `to_event` where a state is {num_particles} "
                "numbers."
            )
        return (num_particles,)
    shape = law.batch_shape + law.event_shape
    return (num_particles,) if isinstance(previous, Tensor) and len(shape) < previous.dim() else ()


def _sum(densities: list[Tensor]) -> Tensor:
    return sum(densities[1:], densities[0])
