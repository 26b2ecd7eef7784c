import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import InputError, StateSpaceModel, check_model
from llmsmc.core.randomness import RandomStreams


class LocalLevel(StateSpaceModel):
    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous, 0.5)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 1.0)


class Planar(StateSpaceModel):
    """States [N, 2], observed without `to_event`, around a mean that forgets the past."""

    def initial(self) -> Any:
        return dist.Normal(torch.zeros(2), 1.0).to_event(1)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(torch.full((2,), float(t)), 1.0)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 1.0)


def generator() -> torch.Generator:
    return RandomStreams(0).generator(0, "test")


def test_three_methods_make_a_model() -> None:
    model = LocalLevel()
    state = model.sample_initial(5, generator=generator())
    after = model.sample_transition(1, state, generator=generator())
    assert state.shape == after.shape == (5,)
    expected = dist.Normal(after, 1.0).log_prob(torch.tensor(0.3))
    torch.testing.assert_close(model.log_likelihood(1, state, after, 0.3), expected)
    assert model.truncated(after).tolist() == [False] * 5


def test_an_observation_of_several_numbers_has_one_density() -> None:
    model = Planar()
    state = model.sample_initial(5, generator=generator())
    y = torch.tensor([0.1, -0.2])
    expected = dist.Normal(state, 1.0).log_prob(y).sum(1)
    torch.testing.assert_close(model.log_likelihood(0, None, state, y), expected)


def test_a_transition_that_forgets_still_has_n_particles() -> None:
    model = Planar()
    state = model.sample_initial(2, generator=generator())
    after = model.sample_transition(1, state, generator=generator())
    assert after.shape == (2, 2)
    assert model.mode_transition(3, state).tolist() == [[3.0, 3.0]] * 2


def test_the_mode() -> None:
    assert LocalLevel().mode_initial(3).tolist() == [0.0] * 3
    previous = torch.tensor([1.0, 2.0])
    assert torch.equal(LocalLevel().mode_transition(1, previous), previous)


def test_a_law_without_a_mode_is_an_error() -> None:
    class Mixed(LocalLevel):
        def initial(self) -> Any:
            parts = dist.Normal(torch.zeros(2), 1.0)
            return dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), parts)

    with pytest.raises(InputError, match="MixtureSameFamily"):
        Mixed().mode_initial(1)


def test_a_missing_observation_says_nothing() -> None:
    assert LocalLevel().log_likelihood(0, None, torch.zeros(3), None).tolist() == [0.0] * 3


def test_an_observation_that_is_no_value_of_its_law_is_named() -> None:
    with pytest.raises(InputError, match="observation of step 2 is no value of its law. Got nan"):
        LocalLevel().log_likelihood(2, None, torch.zeros(3), math.nan)


@pytest.mark.parametrize("y", [torch.zeros(3), torch.zeros(1)])
def test_an_observation_is_not_spread_over_the_particles(y: Tensor) -> None:
    with pytest.raises(InputError, match="a single y_t"):
        LocalLevel().log_likelihood(0, None, torch.zeros(3), y)


@pytest.mark.parametrize("y", [0.5, torch.tensor([0.5]), torch.zeros(2, 1)])
def test_an_observation_is_not_spread_over_its_dimensions(y: Any) -> None:
    message = r"Got shape \(.*\) at step 1, .* batch shape \(5, 2\) .* accepted: shape \(2,\)"
    with pytest.raises(InputError, match=message):
        Planar().log_likelihood(1, torch.zeros(5, 2), torch.zeros(5, 2), y)
    with pytest.raises(InputError, match=r"accepted: shape \(2,\)"):
        check_model(Planar(), [y])


@pytest.mark.parametrize("num_event_dims", [0, 1, 2])
def test_a_number_is_a_vector_of_one(num_event_dims: int) -> None:
    class Vector(LocalLevel):
        def observation(self, t: int, state: Tensor) -> Any:
            return dist.Normal(state[:, None, None], 1.0).to_event(num_event_dims)

    states = torch.tensor([0.0, 1.0, 2.0])
    expected = LocalLevel().log_likelihood(0, None, states, 0.5)
    for y in (0.5, [0.5], torch.tensor([[0.5]])):
        torch.testing.assert_close(Vector().log_likelihood(0, None, states, y), expected)


def test_a_number_beside_columns_of_one_is_one_number() -> None:
    class Column(LocalLevel):
        def observation(self, t: int, state: Tensor) -> Any:
            return dist.Normal(state[:, None], 1.0)

    with pytest.raises(InputError, match=r"accepted: shape \(1,\)"):
        Column().log_likelihood(0, None, torch.zeros(3), [0.5, 0.1])


@pytest.mark.parametrize("name", ["state", "parts"])
def test_the_first_law_is_that_of_a_single_particle(name: str) -> None:
    class Batch(LocalLevel):
        def initial(self) -> Any:
            law = dist.Normal(torch.zeros(8), 1.0)
            return law if name == "state" else (dist.Normal(0.0, 1.0), law)

    message = r"single particle.* Got batch shape \(8,\) for 8 particles"
    with pytest.raises(InputError, match=message):
        Batch().sample_initial(8, generator=generator())
    with pytest.raises(InputError, match=message):
        Batch().mode_initial(8)
    with pytest.raises(InputError, match=message):
        check_model(Batch(), [0.5])


def test_a_law_of_another_number_of_particles_is_named() -> None:
    class Fixed(LocalLevel):
        def observation(self, t: int, state: Tensor) -> Any:
            return dist.Normal(torch.zeros(2), 1.0)

    with pytest.raises(InputError, match=r"Got batch shape \(2,\) at step 3 for 5 particles"):
        Fixed().log_likelihood(3, None, torch.zeros(5), 0.5)


def test_an_observation_law_may_ignore_the_state() -> None:
    class Noise(LocalLevel):
        def observation(self, t: int, state: Tensor) -> Any:
            return dist.Normal(0.0, 1.0)

    values = Noise().log_likelihood(0, None, torch.zeros(3), 0.0)
    assert values.tolist() == pytest.approx([-0.5 * math.log(2 * math.pi)] * 3)


@pytest.mark.parametrize("method", ["initial", "transition", "observation"])
def test_what_is_not_defined_says_so(method: str) -> None:
    arguments: tuple[Any, ...] = () if method == "initial" else (0, torch.zeros(1))
    with pytest.raises(NotImplementedError, match=f"`{method}`"):
        getattr(StateSpaceModel(), method)(*arguments)
