import pytest
import torch

from llmsmc import InputError, check_model
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import BootstrapFilter
from llmsmc.models import StochasticVolatility
from tests.statistics import MAX_Z


def test_the_laws_of_a_model() -> None:
    check_model(StochasticVolatility(), [0.1, None, -0.4])


def test_it_is_stationary() -> None:
    model, streams = StochasticVolatility(0.5, 0.8, 0.6), RandomStreams(0)
    state = model.sample_initial(20_000, generator=streams.generator(0, "test"))
    for t in range(1, 4):
        state = model.sample_transition(t, state, generator=streams.generator(t, "test"))
    variance = 0.6**2 / (1 - 0.8**2)
    assert abs(float(state.mean()) - 0.5) < MAX_Z * (variance / 20_000) ** 0.5
    assert abs(float(state.var()) / variance - 1) < MAX_Z * (2 / 20_000) ** 0.5


def test_large_returns_raise_the_volatility() -> None:
    algorithm = BootstrapFilter(2000)
    calm = algorithm.run(StochasticVolatility(), torch.full((10,), 0.1), seed=0)
    wild = algorithm.run(StochasticVolatility(), torch.full((10,), 3.0), seed=0)
    assert float(wild.mean(lambda x: x)) > float(calm.mean(lambda x: x)) + 0.5


@pytest.mark.parametrize("parameters", [(0.0, 1.0, 1.0), (0.0, 0.5, 0.0), (0.0, -1.2, 1.0)])
def test_parameters_are_checked(parameters: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="stationary"):
        StochasticVolatility(*parameters)
