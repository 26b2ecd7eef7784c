"""Every law of `check_model` has a model that breaks it, and is named."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Generator, Tensor

from llmsmc import StateSpaceModel, check_model
from llmsmc.errors import ModelLawError
from llmsmc.models import (
    HiddenMarkov,
    LinearGaussian,
    PyroModel,
    StochasticVolatility,
    TabularLanguageModel,
)

OBSERVATIONS = [0.3, None, -0.2]


class Good(StateSpaceModel):
    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous, 0.5)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.StudentT(2.5, state, 1.0)


class Shrinks(Good):
    def sample_transition(self, t: int, previous: Tensor, *, generator: Generator) -> Tensor:
        return previous[:-1]


class UsesTheGlobalGenerator(Good):
    def sample_transition(self, t: int, previous: Tensor, *, generator: Generator) -> Tensor:
        return previous + torch.randn(len(previous))


class EditsItsParents(Good):
    def sample_transition(self, t: int, previous: Tensor, *, generator: Generator) -> Tensor:
        previous += 1.0
        return previous.clone()


class ChangesItsMind(Good):
    asked = 0

    def finished(self, state: Tensor) -> Tensor:
        self.asked += 1
        return state > 0.1 * self.asked


class FinishesInNumbers(Good):
    def finished(self, state: Tensor) -> Tensor:
        return state


class OneForAll(Good):
    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        return torch.tensor(0.0)


class NotANumber(Good):
    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        return torch.full((len(state),), torch.nan)


class Noisy(Good):
    count = 0

    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        self.count += 1
        return torch.full((len(state),), 0.1 * self.count)


class EditsWhatItWeighs(Good):
    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        state *= 2.0
        return torch.zeros(len(state))


class LooksAtThePlace(Good):
    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        return torch.arange(len(state))


class WrongSign(Good):
    def log_likelihood(self, t: int, previous: Any, state: Tensor, y: Any) -> Tensor:
        return -super().log_likelihood(t, previous, state, y)


class HalfADensity(dist.Normal):
    def log_prob(self, value: Tensor) -> Any:
        return dist.Normal.log_prob(self, value) - 0.6931


class Unnormalised(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return HalfADensity(state, 1.0)


class MissingMass(dist.Categorical):
    def log_prob(self, value: Tensor) -> Any:
        return dist.Categorical.log_prob(self, value) - 0.1


class UnnormalisedSymbols(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return MissingMass(torch.full((len(state), 3), 1 / 3))


class ForgetsTheBatch(Good):
    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous.mean(), 0.5)


class LooksAtTheFirst(Good):
    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous + previous[0], 0.5)


class LosesAComponent(Good):
    def initial(self) -> Any:
        return {"a": dist.Normal(0.0, 1.0), "b": dist.Normal(0.0, 1.0)}

    def transition(self, t: int, previous: Any) -> Any:
        return {"a": dist.Normal(previous["a"], 1.0), "b": dist.Normal(previous["b"][:1], 1.0)}

    def observation(self, t: int, state: Any) -> Any:
        return dist.Normal(state["a"], 1.0)


class NoisyDensity(Good):
    count = 0

    def log_transition(self, t: int, previous: Any, state: Any) -> Tensor:
        self.count += 1
        return super().log_transition(t, previous, state) + 0.1 * self.count


class OneDensityForAll(Good):
    def log_transition(self, t: int, previous: Any, state: Any) -> Tensor:
        total: Tensor = super().log_transition(t, previous, state).sum()
        return total


class DrawsTheImpossible(Good):
    def log_transition(self, t: int, previous: Any, state: Any) -> Tensor:
        density: Tensor = dist.Uniform(-0.01, 0.01, validate_args=False).log_prob(state)
        return density


class SecondPartUnnormalised(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return HalfADensity(state, 1.0), dist.Normal(state, 1.0)


class WrongPath(TabularLanguageModel):
    def path_log_likelihood(self, t: int, state: Tensor, observations: Any) -> Tensor:
        return super().path_log_likelihood(t, state, observations) + t


WRONG: dict[type[StateSpaceModel], tuple[str, str]] = {
    Shrinks: ("a step keeps the number of particles", "7 in place of 8, at step 1"),
    UsesTheGlobalGenerator: ("global random generators are left alone", "changed, at step 1"),
    EditsItsParents: ("a step leaves the particles", "edited in place, at step 1"),
    ChangesItsMind: ("particles that have finished stay so", "of 8 do not"),
    FinishesInNumbers: ("`finished` says yes or no", "torch.float32 in place of N of torch.bool"),
    OneForAll: ("each particle has one log-likelihood", r"shape \(\) in place of \(8,\)"),
    NotANumber: ("no log-likelihood is NaN", "8 of 8 are NaN and 0 are .inf, at step 0"),
    Noisy: ("a log-likelihood is a fixed function", "particle . has"),
    EditsWhatItWeighs: ("a log-likelihood leaves the particles", "edited in place"),
    LooksAtThePlace: ("does not depend on a particle's place", "in place of"),
    WrongSign: ("is the log-density of the observation", r"has [\d.]+ in place of -[\d.]+"),
    Unnormalised: ("the observation has total probability one", r"density is 0\.[45]\d+ times"),
    ForgetsTheBatch: ("law of a particle does not depend on others", "particle . has .* step 1"),
    LooksAtTheFirst: ("the law of a particle does not depend on others", "particle . has"),
    LosesAComponent: ("a step keeps the number of particles", "without a common .*, at step 1"),
    NoisyDensity: ("a density is a fixed function", "particle . has"),
    OneDensityForAll: ("each particle has one density", r"shape \(\) in place of \(8,\)"),
    DrawsTheImpossible: ("what a step draws is possible", "of 8 have the density 0 or NaN"),
    SecondPartUnnormalised: ("the observation has total probability", r"0\.[45]\d+ times"),
    UnnormalisedSymbols: ("the observation has total probability one", r"sum to 0\.904837"),
}


@pytest.mark.parametrize("wrong", list(WRONG), ids=lambda wrong: wrong.__name__)
def test_a_broken_law_is_named(wrong: type[StateSpaceModel]) -> None:
    law, violation = WRONG[wrong]
    observations: Any = [1, None, 2] if wrong is UnnormalisedSymbols else OBSERVATIONS
    if wrong is SecondPartUnnormalised:
        observations = [(0.1, 0.2), None, (0.3, None)]
    with pytest.raises(ModelLawError, match=f"{law}.*{violation}") as error:
        check_model(wrong(), observations)
    assert wrong.__name__ in str(error.value)
    assert any(law in broken for broken in error.value.violations)


def test_a_wrong_path_likelihood_is_named() -> None:
    model = WrongPath([[[1.0]], [[1.0]]], [[0.5], [0.5]])
    with pytest.raises(ModelLawError, match="of a path is the product .* at step 1"):
        check_model(model)


def test_a_good_model_passes_whatever_the_seed() -> None:
    for seed in range(20):
        laws = check_model(Good(), OBSERVATIONS, seed=seed)
    assert len(laws) == 15


class Walk:
    """A program."""

    def init(self, state: Any) -> None:
        state["x"] = pyro.sample("x", dist.Normal(0.0, 1.0))

    def step(self, state: Any, y: Any) -> None:
        state["x"] = pyro.sample("x", dist.Normal(state["x"], 0.5))
        pyro.sample("y", dist.Normal(state["x"], 1.0), obs=y)


class AverageWalk(Walk):
    def step(self, state: Any, y: Any) -> None:
        state["x"] = pyro.sample("x", dist.Normal(state["x"].mean(), 0.5))


LINEAR = LinearGaussian(
    initial_mean=[0.0, 0.0],
    initial_covariance=torch.eye(2),
    transition_matrix=[[1.0, 0.5], [0.0, 0.9]],
    transition_covariance=torch.eye(2),
    observation_matrix=[[1.0, 0.0]],
    observation_covariance=0.5,
)
SHIPPED: list[tuple[StateSpaceModel, Any]] = [
    (LINEAR, [[0.1], None, [-0.4]]),
    (HiddenMarkov([0.5, 0.5], [[0.9, 0.1], [0.3, 0.7]], [[0.8, 0.2], [0.4, 0.6]]), [0, None, 1]),
    (StochasticVolatility(), [0.1, None, -0.4]),
    (TabularLanguageModel([[[0.4, 0.6]], [[0.3, 0.7]] * 2], [[0.5, 0.2], [0.5] * 4]), None),
    (PyroModel(Walk()), OBSERVATIONS),
]


@pytest.mark.parametrize(
    ("model", "observations"), SHIPPED, ids=[type(model).__name__ for model, _ in SHIPPED]
)
def test_the_models_that_are_shipped_are_good(model: StateSpaceModel, observations: Any) -> None:
    for seed in range(3):
        assert check_model(model, observations, seed=seed)


def test_a_wrong_program_is_named() -> None:
    with pytest.raises(ModelLawError, match="PyroModel.*\n.*does not depend on others: particle"):
        check_model(PyroModel(AverageWalk()), OBSERVATIONS)


class Counts(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Poisson(state.exp())


class Cauchy(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Cauchy(state, 2.0)


class Positive(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Gamma(state.exp(), 1.0)


class Pair(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state[:, None].expand(-1, 2), 1.0)


class Bits(Good):
    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Bernoulli(logits=state)


@pytest.mark.parametrize(
    ("model", "observations"),
    [
        (Counts(), [3.0, 0.0]),
        (Cauchy(), [0.1, -5.0]),
        (Positive(), [1.0, 2.0]),
        (Pair(), [torch.zeros(2)]),
        (Bits(), [1.0, 0.0]),
        (Good(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_observation_laws_of_every_kind_pass(model: StateSpaceModel, observations: Any) -> None:
    assert "the observation has total probability one" in check_model(model, observations)
