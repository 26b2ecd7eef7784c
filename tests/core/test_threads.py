"""Runs in several threads are those of one, and leave the global generators as they were."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import StateSpaceModel
from llmsmc.core.randomness import global_generators
from llmsmc.inference import BootstrapFilter
from llmsmc.models import PyroModel


class Walk(StateSpaceModel):
    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous, 1.0)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 0.5)


class Program:
    def init(self, state: Any) -> None:
        state["x"] = pyro.sample("x", dist.Normal(0.0, 1.0))

    def step(self, state: Any, y: Tensor) -> None:
        state["x"] = pyro.sample("x", dist.Normal(state["x"], 1.0))
        pyro.sample("y", dist.Normal(state["x"], 0.5), obs=y)


@pytest.fixture
def busy() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("model", [Walk(), PyroModel(Program())])
def test_runs_in_threads_repeat(model: StateSpaceModel, busy: None) -> None:
    observations = [torch.tensor(0.1 * t) for t in range(10)]

    def run(seed: int) -> float:
        return BootstrapFilter(20).run(model, observations, seed=seed).log_evidence

    before = torch.get_rng_state()
    one_by_one = [run(seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(run, range(40))) == one_by_one
    assert torch.equal(torch.get_rng_state(), before)


def test_a_thread_waits_for_the_draws_of_another() -> None:
    entered, drawn = threading.Event(), []

    def draw(seed: int) -> float:
        with global_generators(torch.Generator().manual_seed(seed)):
            first = float(torch.rand(()))
            entered.set()
            threading.Event().wait(0.1)
            return first + float(torch.rand(()))

    before, alone = torch.get_rng_state(), [draw(seed) for seed in range(2)]
    entered.clear()
    other = threading.Thread(target=lambda: drawn.append(draw(0)))
    other.start()
    assert entered.wait(10)
    drawn.append(draw(1))
    other.join()
    assert drawn == alone and torch.equal(torch.get_rng_state(), before)


def test_blocks_within_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    with global_generators(generator):
        first = torch.rand(())
        with global_generators(generator):
            torch.rand(())
        second = torch.rand(())
    with global_generators(torch.Generator().manual_seed(0)):
        assert torch.equal(torch.rand(2), torch.stack([first, second]))
