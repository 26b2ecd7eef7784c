r"""Programs written for Pyro's `SMCFilter`, as state-space models.

A program has two methods with `pyro.sample` sites: `init(state, ...)`, and `step(state, ...)` for
each observation. Both read and write `state`, a dictionary of tensors `[N, ...]`. With $z_t$ the
sites that a call draws, $y_t$ those that it observes, and $s_t = f(s_{t-1}, z_t, y_t)$ what it
stores,

$$\text{transition} = p(z_t \mid s_{t-1}) \; 1\{s_t = f(s_{t-1}, z_t, y_t)\}, \qquad
\text{likelihood} = p(y_t \mid s_{t-1}, z_t),$$

so that every algorithm runs on it, with the evidence that `SMCFilter` does not keep.

Reference: Bingham et al. (2019). Pyro: deep universal probabilistic programming.
"""

import copy
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float, Float64
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from pyro.poutine.util import prune_subsample_sites
from torch import Generator, Tensor
from torch.distributions import Distribution

from llmsmc.core.capabilities import DrawsProposals
from llmsmc.core.distributions import (
    accepts_nan,
    described,
    in_part,
    log_prob,
    most_probable,
    shown,
    validated_log_prob,
    with_gaps,
)
from llmsmc.core.priors import with_attributes
from llmsmc.core.randomness import ONE_THREAD, global_generators
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.errors import InputError
from llmsmc.models.pyro.pyro_particles import PyroParticles, Sites, Stored, num_rows

Choose = Callable[[str, Distribution], Tensor | None]
"""The value at a site that is drawn, by its name and its law; None to let it be drawn."""


@dataclass(frozen=True)
class PyroModel(StateSpaceModel):
    """A program as a model; its posteriors hold what the program stores, `{key: [N, ...]}`.

    The arguments of a call are the observation: a tuple gives several, and without observations
    there are none. Step 0 is `init` with `init_arguments`, and `step` with the first observation;
    but where `init` wants arguments and none are given here, it takes the first observation, and
    step 0 is `init` alone.

    >>> import pyro, pyro.distributions as dist
    >>> class Walk:
    ...     def init(self, state):
    ...         state["x"] = pyro.sample("x", dist.Normal(0.0, 1.0))
    ...
    ...     def step(self, state, y):
    ...         state["x"] = pyro.sample("x", dist.Normal(state["x"], 0.5))
    ...         pyro.sample("y", dist.Normal(state["x"], 1.0), obs=y)
    >>> model = PyroModel(Walk())

    Attributes:
        program: the program. Attributes that it sets in a call belong to that step.
        guide: an object like it whose sites are the proposal; it may read `state`, not write.
        init_arguments: of `init`.
        max_plate_nesting: dimensions that plates of the program take, right of the particles.
        max_steps: number of steps of a run without observations.
        observations: of the run, which gives them.
    """

    program: Any
    guide: Any = None
    _: KW_ONLY
    init_arguments: tuple[Any, ...] | None = None
    max_plate_nesting: int = 0
    max_steps: int | None = None
    observations: Observations | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the program."""
        for name, value in (("program", self.program), ("guide", self.guide)):
            missing = [m for m in ("init", "step") if not callable(getattr(value, m, None))]
            if missing and not (name == "guide" and value is None):
                raise InputError(
                    f"A {name} has the methods `init` and `step`. Got a {type(value).__name__} "
                    f"without `{'` and `'.join(missing)}`; accepted: what Pyro's SMCFilter takes."
                )

    def given(self, observations: Observations | None) -> "PyroModel":
        """Return the model that knows the observations: what a program stores may contain them."""
        return replace(self, observations=observations)

    def with_parameters(self, values: Mapping[str, Tensor]) -> "PyroModel":
        """Return the model with other values of attributes of the program."""
        return replace(self, program=with_attributes(self.program, values))

    def sample_initial(self, num_particles: int, *, generator: Generator) -> PyroParticles:
        """Draw N particles x_0; consumes `generator`."""
        with global_generators(generator):
            return self._run(0, None, num_particles, self._y(0), _draw).particles

    def sample_transition(
        self, t: int, previous: PyroParticles, *, generator: Generator
    ) -> PyroParticles:
        """Draw x_t for each of the N particles x_{t-1}; consumes `generator`."""
        with global_generators(generator):
            return self._run(t, previous, len(previous), self._y(t), _draw).particles

    def mode_initial(self, num_particles: int) -> PyroParticles:
        """Return N copies of the x_0 at which each site has its most probable value."""
        return self._run(0, None, num_particles, self._y(0), _take_modes).particles

    def mode_transition(self, t: int, previous: PyroParticles) -> PyroParticles:
        """Return the x_t at which each site has its most probable value."""
        return self._run(t, previous, len(previous), self._y(t), _take_modes).particles

    def log_likelihood(
        self, t: int, previous: PyroParticles | None, state: PyroParticles, y: Any
    ) -> Tensor:
        """Return the sum of the log-densities of the observed sites, `[N]`."""
        return self._run(t, previous, len(state), y, _replay(t, state.sites)).log_likelihood

    def log_transition(
        self, t: int, previous: PyroParticles | None, state: PyroParticles
    ) -> Tensor:
        """Return the sum of the log-densities of the drawn sites, `[N]`.

        It is `-inf` where the program would have stored something else behind `previous`.
        """
        outcome = self._run(t, previous, len(state), self._y(t), _replay(t, state.sites))
        density = torch.zeros(len(state), dtype=torch.float64)
        for densities in outcome.log_densities:
            density = sum(densities.values(), density)
        return density.masked_fill(~_agree(outcome.particles.stored, state.stored), -torch.inf)

    def supports(self, capability: type) -> bool:
        """Return whether the model has a capability: it has a proposal if there is a guide."""
        if capability is DrawsProposals:
            return self.guide is not None
        return super().supports(capability)

    def propose(
        self,
        t: int,
        previous: PyroParticles | None,
        y: Any,
        num_particles: int,
        *,
        generator: Generator,
    ) -> tuple[PyroParticles, Tensor]:
        """Draw the sites that the guide has from it, and the others from the program.

        Returns:
            The N states x_t, and `[N]` the log of transition over proposal density at each.
        """
        guide = copy.copy(self.guide if previous is None else previous.guide)
        proposed: list[dict[str, Tensor]] = []

        def follow(call: _Call) -> Choose:
            sites = [site for site in _sites(guide, call, _nothing) if not site.is_observed]
            proposed.append({site.name: site.log_density for site in sites})
            return lambda name, law: next((s.value for s in sites if s.name == name), None)

        with global_generators(generator):
            outcome = self._run(t, previous, num_particles, y, follow)
        log_ratio = torch.zeros(num_particles, dtype=torch.float64)
        for numerators, denominators in zip(outcome.log_densities, proposed, strict=True):
            unknown = denominators.keys() - numerators.keys()
            if unknown:
                raise InputError(
                    f"A guide draws sites of its program. Got {sorted(unknown)} at step {t}; "
                    f"accepted: {list(numerators)}."
                )
            for name, log_density in denominators.items():
                log_ratio = log_ratio + numerators[name] - log_density
        return replace(outcome.particles, guide=guide), log_ratio

    def coordinates(self, state: PyroParticles) -> Any:
        """Return the values of the sites that were drawn."""
        return state.sites

    def at_coordinates(
        self, t: int, previous: PyroParticles | None, coordinates: Any
    ) -> PyroParticles:
        """Return what the program makes of these values."""
        count = num_rows(coordinates) if previous is None else len(previous)
        return self._run(t, previous, count, self._y(t), _replay(t, coordinates)).particles

    def identities(self, state: PyroParticles) -> Sequence[Hashable]:
        """Return N keys: the values that are stored."""
        return super().identities(state.stored)

    def record(self, particles: PyroParticles) -> Any:
        """Return what the program has stored."""
        return particles.stored

    def _y(self, t: int) -> Any:
        """Return y_t; no arguments if there are no observations."""
        return () if self.observations is None else self.observations[t]

    def _run(
        self,
        t: int,
        previous: PyroParticles | None,
        num_particles: int,
        y: Any,
        source: Callable[["_Call"], Choose],
    ) -> "_Outcome":
        """Let the program make step t, with values from `source` at the sites that it draws."""
        program = copy.copy(self.program if previous is None else previous.program)
        guide = self.guide if previous is None else previous.guide
        # What is edited in place must not be what the previous particles hold.
        before = {} if previous is None else previous.stored
        stored: Stored = {key: values.clone() for key, values in before.items()}
        log_likelihood = torch.zeros(num_particles, dtype=torch.float64)
        sites, log_densities = [], []
        for number, (method, arguments) in enumerate(self._calls(t, y)):
            call = _Call(
                t, number, method, stored, arguments, num_particles, self.max_plate_nesting
            )
            found = _sites(program, call, source(replace(call, stored=MappingProxyType(stored))))
            _check_stored(stored, call)
            drawn = [site for site in found if not site.is_observed]
            sites.append({site.name: site.value for site in drawn})
            log_densities.append({site.name: site.log_density for site in drawn})
            seen = [site.log_density for site in found if site.is_observed]
            log_likelihood = sum(seen, log_likelihood)
        particles = PyroParticles(stored, tuple(sites), program, guide)
        return _Outcome(particles, log_likelihood, tuple(log_densities))

    def _calls(self, t: int, y: Any) -> list[tuple[str, tuple[Any, ...]]]:
        """Return the methods that make step t, with their arguments."""
        nothing = y is None and self.observations is None
        arguments = y if isinstance(y, tuple) else () if nothing else (y,)
        if t > 0:
            return [("step", arguments)]
        if self.init_arguments is None and _wants_arguments(self.program.init):
            return [("init", arguments)]
        return [("init", self.init_arguments or ()), ("step", arguments)]


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a method of a program or a guide."""

    t: int
    number: int
    method: str
    stored: Any
    arguments: tuple[Any, ...]
    num_particles: int
    max_plate_nesting: int

    def plate(self) -> Any:
        """Return the plate of the particles."""
        return pyro.plate("particles", self.num_particles, dim=-1 - self.max_plate_nesting)


@dataclass(frozen=True, eq=False)
class _Site:
    """A site of a call whose value is not certain."""

    name: str
    is_observed: bool
    value: Tensor
    log_density: Float[Tensor, " N"]


@dataclass(frozen=True, eq=False)
class _Outcome:
    """A step: the particles, and the log-densities of what was observed and of what was drawn."""

    particles: PyroParticles
    log_likelihood: Float64[Tensor, " N"]
    log_densities: tuple[dict[str, Tensor], ...]


class _Choosing(Messenger):
    """A handler that gives values to sites."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self._choose = choose

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["is_observed"]:
            msg["value"], present = with_gaps(msg["value"])
            if present is not None:
                msg["infer"] = {**msg["infer"], _PRESENT: present}
        elif not _is_certain(msg["fn"]):
            value = self._choose(msg["name"], msg["fn"])
            if value is not None:
                msg["value"], msg["done"] = value, True


def _nothing(name: str, law: Distribution) -> None:
    """Choose no value, so that it is drawn."""


def _draw(call: _Call) -> Choose:
    return _nothing


def _take_modes(call: _Call) -> Choose:
    return lambda name, law: most_probable(law)


def _replay(t: int, sites: Sites) -> Callable[[_Call], Choose]:
    def values_of(call: _Call) -> Choose:
        values = sites[call.number] if call.number < len(sites) else {}

        def value(name: str, law: Distribution) -> Tensor:
            if name not in values:
                raise InputError(
                    f"A program draws the same sites whenever it makes a step. Got {name!r} at "
                    f"step {t}, which was not drawn before; accepted: {list(values)}."
                )
            return values[name]

        return value

    return values_of


def _sites(program: Any, call: _Call, choose: Choose) -> list[_Site]:
    """Call a method and return its sites, but those that are certain."""
    method = getattr(program, call.method)
    signature = inspect.signature(method)
    try:
        signature.bind(call.stored, *call.arguments)
    except TypeError as error:
        raise InputError(
            f"`{call.method}` of a {type(program).__name__} does not take what it gets at step "
            f"{call.t}. Got arguments {call.arguments!r} behind the state; accepted: {signature}."
        ) from error
    with ONE_THREAD, torch.no_grad(), poutine.block(), _Choosing(choose), call.plate():
        try:
            trace = poutine.trace(method).get_trace(call.stored, *call.arguments)
        except ValueError as error:
            if "inside plate('particles')" not in str(error):
                raise
            message = str(error).split("\n")[0]
            raise InputError(
                f"{_ROWS} Got a '{message}' at step {call.t}; {_ACCEPTED_ROWS}"
            ) from error
    nodes = prune_subsample_sites(trace).nodes
    return [
        _site(name, node, call)
        for name, node in nodes.items()
        if node["type"] == "sample" and not (_is_certain(node["fn"]) and not node["is_observed"])
    ]


_PRESENT: Final = "which numbers are there"
_ROWS: Final = "Each site of a program has one row a particle."
_ACCEPTED_ROWS: Final = (
    "accepted: laws whose batch shape begins with N, further dimensions declared by `to_event`, or "
    "by plates that `max_plate_nesting` counts."
)


def _site(name: str, node: Mapping[str, Any], call: _Call) -> _Site:
    law, value, is_observed = node["fn"], node["value"], node["is_observed"]
    if is_observed:
        law, value = _what_is_there(name, node, call)
    try:
        density = validated_log_prob(law, value) if is_observed else log_prob(law, value)
    except (ValueError, RuntimeError) as error:  # how torch says that it is no value of the law
        raise InputError(
            f"The value of site {name!r} at step {call.t} is no value of its law. Got "
            f"{shown(value)}; accepted: {described(law)}."
        ) from error
    density = scale_and_mask(density, node["scale"], node["mask"])
    if density.dim() != 1 + call.max_plate_nesting or len(density) != call.num_particles:
        raise InputError(
            f"{_ROWS} Got batch shape {tuple(density.shape)} for {call.num_particles} particles at "
            f"site {name!r} of step {call.t}; {_ACCEPTED_ROWS}"
        )
    return _Site(name, is_observed, value, density.reshape(call.num_particles, -1).sum(1))


def _what_is_there(name: str, node: Mapping[str, Any], call: _Call) -> tuple[Any, Tensor]:
    """Return the law of what is there of an observation, and its value."""
    law, value, present = node["fn"], node["value"], node["infer"].get(_PRESENT)
    missing = value.isnan()
    if not bool(missing.any()):
        return in_part(law, value, present)
    if accepts_nan(law):
        return in_part(law, value, ~missing if present is None else present & ~missing)
    mask = torch.as_tensor(True if node["mask"] is None else node["mask"])
    if bool((missing & mask.reshape(mask.shape + (1,) * len(law.event_shape))).any()):
        raise InputError(
            f"The observation of step {call.t} is no number. Got {shown(value)} at site "
            f"{name!r}; accepted: numbers; None in place of it, or of single numbers of it, "
            "where they are missing; NaN where a mask, or a law such as NanMaskedNormal, says "
            "that it is."
        )
    return in_part(law, torch.where(missing, _some_value(law), value), present)


def _some_value(law: Distribution) -> Tensor:
    """Return values that the law can have; no generator is touched."""
    with ONE_THREAD, torch.random.fork_rng(devices=()):
        return law.sample()


def _check_stored(stored: Stored, call: _Call) -> None:
    for key, values in stored.items():
        is_tensor = isinstance(values, Tensor)
        if not is_tensor or values.dim() == 0 or len(values) != call.num_particles:
            got = f"shape {tuple(values.shape)}" if is_tensor else f"a {type(values).__name__}"
            raise InputError(
                f"What a program stores has one row a particle. Got {got} as {key!r} at step "
                f"{call.t}; accepted: tensors [{call.num_particles}, ...]."
            )


def _agree(one: Stored, other: Stored) -> Bool[Tensor, " N"]:
    """Return for which particles the same is stored, up to rounding."""
    if one.keys() != other.keys() or not one:
        return torch.tensor(one.keys() == other.keys())
    rows = [
        torch.isclose(one[key], other[key], rtol=1e-5, atol=1e-6, equal_nan=True)
        .reshape(len(one[key]), -1)
        .all(1)
        for key in one
    ]
    return torch.stack(rows).all(0)


def _is_certain(law: Any) -> bool:
    """Return whether a law has a single value, which needs no memory."""
    while hasattr(law, "base_dist"):
        law = law.base_dist
    return isinstance(law, dist.Delta | _Subsample)


def _wants_arguments(method: Callable[..., Any]) -> bool:
    """Return whether a method needs arguments behind the state."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [
        parameter
        for parameter in inspect.signature(method).parameters.values()
        if parameter.kind in positional and parameter.default is inspect.Parameter.empty
    ]
    return len(required) > 1
