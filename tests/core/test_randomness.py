import pyro.distributions as dist
import pytest
import torch

from llmsmc.core.randomness import RandomStreams, sample
from llmsmc.errors import InputError
from llmsmc.models.state_space.linear_gaussian import standard_normal


def draw(seed: int, step: int, purpose: str) -> tuple[float, ...]:
    generator = RandomStreams(seed).generator(step, purpose)
    return tuple(torch.rand(4, generator=generator).tolist())


def test_a_stream_is_a_function_of_seed_step_and_purpose() -> None:
    keys = [(s, t, p) for s in (0, 1, -1, 2**70) for t in range(3) for p in ("a", "b")]
    assert len({draw(*key) for key in keys}) == len(keys)
    assert draw(3, 4, "a") == draw(3, 4, "a")


def test_streams_are_the_same_in_every_process() -> None:
    # A golden number: were it to change, no saved seed would repeat its run.
    assert RandomStreams(0).generator(0, "propagate").initial_seed() == 399229435399155103


def test_without_a_seed_every_run_is_new() -> None:
    assert RandomStreams().seed != RandomStreams().seed


def test_a_seed_is_an_integer() -> None:
    with pytest.raises(InputError, match="Got True"):
        RandomStreams(True)


def test_sampling_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    draws = [
        sample(dist.Normal(0.0, 1.0), (5,), RandomStreams(0).generator(0, "test")) for _ in range(2)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(draws[0], draws[1])


def test_sampling_advances_its_generator() -> None:
    generator = RandomStreams(0).generator(0, "test")
    first, second = (sample(dist.Normal(0.0, 1.0), (5,), generator) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(1,), (17,), (1000, 1), (4096,), (5003, 3)])
def test_normal_numbers_are_those_of_torch(shape: tuple[int, ...]) -> None:
    source, other = (torch.Generator().manual_seed(3) for _ in range(2))
    for _ in range(2):  # the generator is consumed alike
        found = standard_normal(shape, source)
        expected = torch.randn(shape, generator=other, dtype=torch.float64)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
