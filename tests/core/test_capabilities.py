"""A model has the capabilities whose methods it defines, unless it says otherwise."""

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import InputError, StateSpaceModel
from llmsmc.core.capabilities import (
    DrawsProposals,
    Fails,
    Finishes,
    LooksAhead,
    Proposes,
    RemembersPath,
    Rewinds,
    Splices,
    Twists,
)
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import (
    Algorithm,
    AuxiliaryFilter,
    BeamSearch,
    BootstrapFilter,
    GuidedFilter,
    ParticleGibbs,
    TemperedSMC,
    TwistedFilter,
)
from llmsmc.inference.loop.loop import Run
from llmsmc.models import PyroModel, TabularLanguageModel
from llmsmc.testing.instances import guided_table

ALL = {
    DrawsProposals,
    Fails,
    Finishes,
    LooksAhead,
    Proposes,
    RemembersPath,
    Rewinds,
    Splices,
    Twists,
}


class Level(StateSpaceModel):
    max_steps = 2

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous, 0.5)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 1.0)


class Guided(Level):
    def proposal(self, t: int, previous: Any, y: Any) -> Any:
        return dist.Normal(0.0, 2.0) if previous is None else dist.Normal(previous, 1.0)

    def log_lookahead(self, t: int, state: Tensor, y: Any) -> Tensor:
        return torch.zeros(len(state))

    def finished(self, state: Tensor) -> Tensor:
        return state > 2


class Program:
    def init(self, state: Any) -> None:
        """Draw nothing."""

    def step(self, state: Any, y: Any) -> None:
        """Draw nothing."""


def supported(model: StateSpaceModel) -> set[type]:
    return {capability for capability in ALL if model.supports(capability)}


def test_defined_methods_count() -> None:
    assert supported(Level()) == set()
    assert supported(Guided()) == {Proposes, LooksAhead, Finishes}
    paths = {Finishes, RemembersPath, Rewinds, Splices}
    assert supported(guided_table()) == paths | {DrawsProposals, LooksAhead, Twists}
    assert {c for c in ALL if issubclass(TabularLanguageModel, c)} == paths


def test_settings_can_decide() -> None:
    assert not PyroModel(Program()).supports(DrawsProposals)
    assert PyroModel(Program(), guide=Program()).supports(DrawsProposals)


def test_a_run_asks_once() -> None:
    class Counting(Guided):
        num_asked = 0

        def supports(self, capability: type) -> bool:
            self.num_asked += 1
            return super().supports(capability)

    model = Counting()
    run = Run(model, None, RandomStreams(0))
    assert [run.supports(Finishes) for _ in range(5)] == [True] * 5
    assert model.num_asked == 1


@pytest.mark.parametrize(
    ("algorithm", "method"),
    [
        (GuidedFilter(4), "proposal"),
        (AuxiliaryFilter(4), "log_lookahead"),
        (TwistedFilter(4), "log_twist"),
        (TemperedSMC(4), "path_log_likelihood"),
        (BeamSearch(4), "path_log_likelihood"),
    ],
)
def test_what_an_algorithm_needs_is_named(algorithm: Algorithm, method: str) -> None:
    with pytest.raises(InputError, match=f"Got Level.*`{method}`"):
        algorithm.run(Level(), [0.1, 0.2], seed=0)


def test_new_pasts_need_splicing() -> None:
    class Unspliced(TabularLanguageModel):
        def supports(self, capability: type) -> bool:
            return capability is not Splices and super().supports(capability)

    table = guided_table()
    tables = [t.exp() for t in table.log_transitions], [t.exp() for t in table.log_potentials]
    model = Unspliced(*tables, eos=table.eos)
    with pytest.raises(InputError, match="Got Unspliced.*`splice` and `log_prior`"):
        ParticleGibbs(4).run(model, seed=0)
    ParticleGibbs(4, ancestor_sampling=False).run(model, seed=0)


def test_a_model_without_capabilities_runs() -> None:
    posterior = BootstrapFilter(4).run(Level(), [0.1, 0.2], seed=0)
    assert [record.num_finished for record in posterior.history] == [0, 0]
