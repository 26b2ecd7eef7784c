"""Checks for models of your own: the laws that every algorithm relies on.

>>> import pyro.distributions as dist
>>> class Walk(StateSpaceModel):
...     max_steps = 3
...
...     def initial(self):
...         return dist.Normal(0.0, 1.0)
...
...     def transition(self, t, previous):
...         return dist.Normal(previous, 1.0)
...
...     def log_likelihood(self, t, previous, state, y):
...         return state.sqrt()
>>> check_model(Walk())  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
llmsmc.errors.ModelLawError: Walk breaks 1 of the laws of a model:
  no log-likelihood is NaN or +inf: ... of 8 are NaN and 0 are +inf, at step 0.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.distributions import Distribution

from llmsmc.core.capabilities import Finishes, RemembersPath
from llmsmc.core.particles import components, take, where
from llmsmc.core.particles import num_particles as size_of
from llmsmc.core.randomness import RandomStreams, sample
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.errors import InputError, ModelLawError
from llmsmc.inference.loop.loop import Run
from llmsmc.storage import serialization

Finding = tuple[str, str | None]
"""A law, and how it is broken; None if it holds."""

_NUM_DRAWS = 4096
_MAX_Z = 7.0  # two-sided 3e-12: no false alarm over all elements and steps


def check_model(
    model: StateSpaceModel,
    observations: Observations | None = None,
    *,
    num_particles: int = 8,
    num_steps: int = 5,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> tuple[str, ...]:
    """Run the model for a few steps and check that it obeys the laws of a model.

    Args:
        model: the model.
        observations: the observations; None for models without.
        num_particles: N of the run.
        num_steps: the largest number of steps to check.
        tolerance: the allowed difference between two values of one log-likelihood, absolute and
            relative.
        seed: the seed of the run.

    Returns:
        The laws that were checked, all of which hold.

    Raises:
        ModelLawError: laws are broken; names each law, the step and the deviation.
    """
    limits = (num_steps, model.max_steps, None if observations is None else len(observations))
    run, laws = Run(model, observations, RandomStreams(seed)), dict[str, None]()
    model = run.model
    previous, path = None, torch.zeros(num_particles, dtype=torch.float64)
    for t in range(min(limit for limit in limits if limit is not None)):
        step = _Step(run, t, previous, num_particles, tolerance)
        state = step.draw()
        for check in CHECKS:
            findings = dict(check(step, state))
            violations = {law: broken for law, broken in findings.items() if broken}
            if violations:
                raise ModelLawError(type(model).__name__, step.name(violations))
            laws.update(dict.fromkeys(findings))
        state = step.absorb(state)
        if run.supports(RemembersPath):
            state, log_likelihood = step.observe(state)
            path = path + step.active() * log_likelihood
            law = "the likelihood of a path is the product of those of its steps"
            state, whole = model.observe_path(t, state, observations)
            broken = step.difference(whole.where(model.survives(t, state), -math.inf), path)
            if broken:
                raise ModelLawError(type(model).__name__, step.name({law: broken}))
            laws[law] = None
        if bool(run.finished(state).all()):
            break
        previous = state
    return tuple(laws)


@dataclass(frozen=True, eq=False)
class _Step:
    """Step t of the run that the checks look at."""

    run: Run
    t: int
    previous: Any
    num_particles: int
    tolerance: float

    @property
    def model(self) -> StateSpaceModel:
        """The model."""
        return self.run.model

    @property
    def y(self) -> Any:
        """The observation of the step."""
        return self.run.y(self.t)

    def draw(self) -> Any:
        """Return x_t; always the same draw."""
        generator = self.run.generator(self.t, "propagate")
        if self.previous is None:
            return self.model.sample_initial(self.num_particles, generator=generator)
        return self.model.sample_transition(self.t, self.previous, generator=generator)

    def active(self) -> Tensor:
        """Return which particles had not finished before the step."""
        if self.previous is None:
            return torch.ones(self.num_particles, dtype=torch.bool)
        return ~self.run.finished(self.previous)

    def absorb(self, state: Any) -> Any:
        """Return the drawn particles, but those that had finished as they were."""
        active = self.active()
        return state if bool(active.all()) else where(active, state, self.previous)

    def observe(self, state: Any) -> tuple[Any, Tensor]:
        """Return the particles of the step, observed, and their log-likelihoods."""
        state, values = self.model.observe(self.t, self.previous, state, self.y)
        return state, values.detach().cpu()

    def difference(self, one: Tensor, other: Tensor) -> str | None:
        """Say by how much two log-likelihoods differ, if by too much."""
        one, other = one.detach().cpu().double(), other.detach().cpu().double()
        if one.shape != other.shape:
            return f"{tuple(one.shape)} values in place of {tuple(other.shape)}"
        close = torch.isclose(one, other, rtol=self.tolerance, atol=self.tolerance, equal_nan=True)
        if bool(close.all()):
            return None
        n = int((one - other).abs().masked_fill(close, -1.0).argmax())
        return f"particle {n} has {float(one[n]):.6g} in place of {float(other[n]):.6g}"

    def name(self, violations: dict[str, str]) -> dict[str, str]:
        """Add the step to the violations."""
        return {law: f"{broken}, at step {self.t}." for law, broken in violations.items()}


def _check_draws(step: _Step, state: Any) -> Iterator[Finding]:
    yield "a step keeps the number of particles", _wrong_size(step, state)
    before, random_state = _snapshot(step, step.previous), torch.random.get_rng_state()
    again = step.draw()
    same = torch.equal(random_state, torch.random.get_rng_state())
    yield (
        "global random generators are left alone",
        None if same else "the state of torch's changed",
    )
    same = _snapshot(step, again) == _snapshot(step, state)
    yield "equal generators give equal draws", None if same else "two draws differ"
    same = _snapshot(step, step.previous) == before
    yield (
        "a step leaves the particles that it starts from as they are",
        (None if same else "they were edited in place"),
    )


def _wrong_size(step: _Step, state: Any) -> str | None:
    try:
        size = size_of(state)
    except InputError as error:
        return str(error).removesuffix(".")
    return None if size == step.num_particles else f"{size} in place of {step.num_particles}"


def _check_density(step: _Step, state: Any) -> Iterator[Finding]:
    """Check the density of the draws, if the model has one."""
    mine, base = type(step.model), StateSpaceModel
    if mine.log_transition is base.log_transition and (
        mine.initial is base.initial or mine.transition is base.transition
    ):
        return

    def density(state: Any, previous: Any) -> Tensor:
        return step.model.log_transition(step.t, previous, state).detach().cpu()

    active = step.active().nonzero().squeeze(1)
    state = take(state, active)
    previous = None if step.previous is None else take(step.previous, active)
    values = density(state, previous)
    right = values.shape == active.shape
    bad = f"shape {tuple(values.shape)} in place of {tuple(active.shape)}"
    yield "each particle has one density given the previous one", None if right else bad
    if not right:
        return
    possible = values.isfinite() | (values == math.inf)  # the law may have an atom
    num_bad = int((~possible).sum())
    bad = f"{num_bad} of {len(values)} have the density 0 or NaN"
    yield "what a step draws is possible", bad if num_bad else None
    yield "a density is a fixed function", step.difference(density(state, previous), values)
    some = torch.arange(len(values)).flip(0)[: max(1, len(values) // 2)]
    alone = density(take(state, some), None if previous is None else take(previous, some))
    yield "the law of a particle does not depend on others", step.difference(alone, values[some])


def _check_finished(step: _Step, state: Any) -> Iterator[Finding]:
    if not step.run.supports(Finishes):
        return
    finished = step.run.model_as(Finishes).finished(state).cpu()
    right = finished.shape == (step.num_particles,) and finished.dtype == torch.bool
    broken = f"shape {tuple(finished.shape)} of {finished.dtype} in place of N of torch.bool"
    yield "`finished` says yes or no for each particle", None if right else broken
    if not right:
        return
    reopened = ~step.active() & ~step.run.finished(step.absorb(state))
    broken = f"{int(reopened.sum())} of {step.num_particles} do not"
    yield "particles that have finished stay so", broken if bool(reopened.any()) else None


def _check_likelihood(step: _Step, state: Any) -> Iterator[Finding]:
    before = _snapshot(step, state), _snapshot(step, step.previous)
    observed, values = step.observe(state)
    right = values.shape == (step.num_particles,)
    bad = f"shape {tuple(values.shape)} in place of ({step.num_particles},)"
    yield "each particle has one log-likelihood", None if right else bad
    if not right:
        return
    num_nan, num_infinite = int(values.isnan().sum()), int((values == math.inf).sum())
    bad = f"{num_nan} of {len(values)} are NaN and {num_infinite} are +inf"
    yield "no log-likelihood is NaN or +inf", bad if num_nan or num_infinite else None
    again = step.observe(state)[1], step.observe(observed)[1]
    broken = step.difference(again[0], values) or step.difference(again[1], values)
    yield "a log-likelihood is a fixed function", broken
    if step.run.supports(RemembersPath):
        step.model.observe_path(step.t, state, step.run.observations)
    same = (_snapshot(step, state), _snapshot(step, step.previous)) == before
    yield (
        "a log-likelihood leaves the particles as they are",
        (None if same else "they were edited in place"),
    )
    order = torch.arange(step.num_particles - 1, -1, -1)
    previous = None if step.previous is None else take(step.previous, order)
    _, mirrored = step.model.observe(step.t, previous, take(state, order), step.y)
    broken = step.difference(mirrored, values[order])
    yield "a log-likelihood does not depend on a particle's place", broken


def _check_observation(step: _Step, state: Any) -> Iterator[Finding]:
    """Check the likelihood against the observation law, if the model has one."""
    if type(step.model).observation is StateSpaceModel.observation:
        return
    observation = step.model.observation(step.t, state)
    if step.y is not None:
        density = StateSpaceModel.log_likelihood(step.model, step.t, step.previous, state, step.y)
        broken = step.difference(step.observe(state)[1], density)
        yield "the log-likelihood is the log-density of the observation", broken
    errors = [
        _mass_error(step, law)
        for _, (law,) in components(observation)
        if law.event_shape == () and _support(law) is not None
    ]
    if errors:
        yield "the observation has total probability one", next(filter(None, errors), None)


def _support(law: Distribution) -> Any:
    try:
        return law.support
    except NotImplementedError:
        return None


def _enumerated(law: Distribution) -> Tensor | None:
    """Return the values of a finite law; None where there are none, or each particle has others."""
    try:
        return law.enumerate_support() if law.has_enumerate_support else None
    except NotImplementedError:
        return None


def _mass_error(step: _Step, law: Distribution) -> str | None:
    r"""Compare the density that a law states with one, or with what the law draws.

    A finite law is summed. Else the mean of 1{y in I} / (|I| p(y)) is 1 for any set I on which
    p > 0. I is the middle half of other draws, so that this holds for heavy tails as well.
    """
    values = _enumerated(law)
    if values is not None:
        mass = law.log_prob(values).logsumexp(0).double().exp()
        worst = mass.flatten()[int((mass - 1.0).abs().argmax())]
        wrong = abs(float(worst) - 1.0) > step.tolerance
        return f"its probabilities sum to {float(worst):.6g}" if wrong else None
    generator = step.run.generator(step.t, "observation")
    first, draws = sample(law, (2, _NUM_DRAWS), generator)
    low, high = first.double().quantile(torch.tensor([0.25, 0.75]).double(), dim=0)
    size = high.floor() - low.ceil() + 1 if _support(law).is_discrete else high - low
    inside = (draws >= low) & (draws <= high) & (size > 0)
    ratio = torch.where(inside, (-law.log_prob(draws).double()).exp() / size, 0.0)
    mean, error = ratio.mean(0), ratio.std(0) / math.sqrt(_NUM_DRAWS)
    z = torch.where(size > 0, (mean - 1.0) / error.clamp(min=1e-4), 0.0).abs().flatten()
    if not bool((z > _MAX_Z).any()):
        return None
    factor = 1.0 / float(mean.flatten()[int(z.argmax())])
    return f"its density is {factor:.4g} times that of its draws"


CHECKS: Final = (
    _check_draws,
    _check_finished,
    _check_density,
    _check_likelihood,
    _check_observation,
)


def _snapshot(step: _Step, particles: Any) -> Any:
    """Return a copy of the particles that can be compared; None if they cannot be copied."""
    if particles is None:
        return None
    try:
        document, tensors = serialization.encode(step.model.record(particles))
    except InputError:
        return None
    return document, {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
