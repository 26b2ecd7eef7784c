"""States, and observations, that are trees of tensors: their laws are trees of distributions."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro.distributions as dist
import pytest
import torch
from torch import Generator, Tensor

from llmsmc import InputError, StateSpaceModel, check_model
from llmsmc.core.particles import components
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import (
    Adaptive,
    BootstrapFilter,
    CoalescingFilter,
    Greedy,
    GuidedFilter,
    ParticleGibbs,
    RandomWalk,
    ResampleMove,
    multinomial,
    systematic,
)
from llmsmc.models import HiddenMarkov, LinearGaussian
from tests.replicates import replicates
from tests.statistics import MAX_Z, z_score

OBSERVATIONS = [0.4, 1.3, None, 2.6, 2.2]


class Trend(StateSpaceModel):
    """A level that a wandering slope carries along."""

    def initial(self) -> Any:
        return {"level": dist.Normal(0.0, 1.0), "slope": dist.Normal(0.5, 0.6)}

    def transition(self, t: int, previous: Any) -> Any:
        return {
            "level": dist.Normal(previous["level"] + previous["slope"], 0.5),
            "slope": dist.Normal(0.9 * previous["slope"], 0.3),
        }

    def observation(self, t: int, state: Any) -> Any:
        return dist.Normal(state["level"], 0.8)


class GuidedTrend(Trend):
    """The level is proposed given its observation, the slope as it comes."""

    def proposal(self, t: int, previous: Any, y: Any) -> Any:
        laws = self.initial() if previous is None else self.transition(t, previous)
        level = laws["level"]
        if y is None:
            return laws
        precision = level.scale.square().reciprocal() + 0.8**-2
        mean = (level.mean / level.scale.square() + y / 0.8**2) / precision
        return {"slope": laws["slope"], "level": dist.Normal(mean, precision.rsqrt())}


EXACT = LinearGaussian(
    initial_mean=[0.0, 0.5],
    initial_covariance=[[1.0, 0.0], [0.0, 0.36]],
    transition_matrix=[[1.0, 1.0], [0.0, 0.9]],
    transition_covariance=[[0.25, 0.0], [0.0, 0.09]],
    observation_matrix=[[1.0, 0.0]],
    observation_covariance=0.64,
)


class Pair(NamedTuple):
    level: Any
    slope: Any


@dataclass(frozen=True)
class Body:
    level: Any
    slope: Any


class AsTensor(StateSpaceModel):
    """States [N, 2]."""

    def initial(self) -> Any:
        return dist.Normal(torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.6]))

    def transition(self, t: int, previous: Tensor) -> Any:
        mean = torch.stack([previous.sum(1), 0.9 * previous[:, 1]], dim=1)
        return dist.Normal(mean, torch.tensor([0.5, 0.3]))

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state[:, 0], 0.8)


class AsTree(Trend):
    """The same model, in a container of another kind."""

    def __init__(self, make: Any, parts: Any) -> None:
        self.make, self.parts = make, parts

    def initial(self) -> Any:
        return self.make(super().initial())

    def transition(self, t: int, previous: Any) -> Any:
        return self.make(super().transition(t, self.parts(previous)))

    def observation(self, t: int, state: Any) -> Any:
        return super().observation(t, self.parts(state))


def by_place(tree: Any) -> dict[str, Any]:
    return dict(zip(("level", "slope"), tree, strict=True))


KINDS: dict[str, StateSpaceModel] = {
    "tensor": AsTensor(),
    "dict": Trend(),
    "tuple": AsTree(lambda laws: tuple(laws.values()), by_place),
    "list": AsTree(lambda laws: list(laws.values()), by_place),
    "named tuple": AsTree(lambda laws: Pair(**laws), by_place),
    "dataclass": AsTree(lambda laws: Body(**laws), vars),
    "dict in a tuple": AsTree(lambda laws: (laws,), lambda state: state[0]),
}

kinds = pytest.mark.parametrize("model", KINDS.values(), ids=KINDS)


@kinds
def test_the_evidence_is_that_of_the_kalman_filter(model: StateSpaceModel) -> None:
    runs = replicates(model, OBSERVATIONS, num_particles=20, resampler=Adaptive())
    assert abs(z_score(runs.evidence, math.exp(EXACT.log_evidence(OBSERVATIONS)))) < MAX_Z


class MixesUpComponents(Trend):
    """What happens when components correspond by their order, and a law states another."""

    def sample_transition(self, t: int, previous: Any, *, generator: Generator) -> Any:
        state = super().sample_transition(t, previous, generator=generator)
        return {"level": state["slope"], "slope": state["level"]} if t == 2 else state


class OneComponentWeighs(GuidedTrend):
    """The ratio of a proposal without that of its level."""

    def log_transition(self, t: int, previous: Any, state: Any) -> Tensor:
        law = self.proposal(t, previous, OBSERVATIONS[t])["level"]
        slope = self.initial() if previous is None else self.transition(t, previous)
        density: Tensor = law.log_prob(state["level"]) + slope["slope"].log_prob(state["slope"])
        return density


@pytest.mark.parametrize(
    ("wrong", "algorithm"),
    [(MixesUpComponents(), BootstrapFilter), (OneComponentWeighs(), GuidedFilter)],
)
def test_wrong_components_are_rejected(wrong: StateSpaceModel, algorithm: Any) -> None:
    runs = replicates(
        wrong, OBSERVATIONS, num_particles=20, resampler=Adaptive(), algorithm=algorithm
    )
    assert abs(z_score(runs.evidence, math.exp(EXACT.log_evidence(OBSERVATIONS)))) > 2 * MAX_Z


@kinds
def test_the_laws_of_a_model(model: StateSpaceModel) -> None:
    laws = check_model(model, OBSERVATIONS)
    assert "the law of a particle does not depend on others" in laws


@kinds
def test_the_density_is_the_sum_over_components(model: StateSpaceModel) -> None:
    generator = RandomStreams(0).generator(0, "test")
    before = model.sample_initial(4, generator=generator)
    after = model.sample_transition(1, before, generator=generator)

    def columns(state: Any) -> Tensor:
        if isinstance(state, Tensor):
            return state
        return torch.stack([values for _, (values,) in components(state)], dim=1)

    reference = AsTensor()
    expected = reference.log_transition(1, columns(before), columns(after))
    torch.testing.assert_close(model.log_transition(1, before, after), expected)
    expected = reference.log_transition(0, None, columns(before))
    torch.testing.assert_close(model.log_transition(0, None, before), expected)


def test_a_proposal_of_components() -> None:
    exact = math.exp(EXACT.log_evidence(OBSERVATIONS))
    spread = {}
    for algorithm in (BootstrapFilter, GuidedFilter):
        runs = replicates(
            GuidedTrend(),
            OBSERVATIONS,
            num_particles=20,
            resampler=Adaptive(),
            algorithm=algorithm,
        )
        assert abs(z_score(runs.evidence, exact)) < MAX_Z
        spread[algorithm] = float(runs.evidence.std())
    assert spread[GuidedFilter] < spread[BootstrapFilter]


@pytest.mark.parametrize("model", [Trend(), KINDS["dataclass"]], ids=["dict", "dataclass"])
def test_moves_and_conditional_runs(model: StateSpaceModel) -> None:
    smoothed = EXACT.smoother(OBSERVATIONS).means[-1]

    def both(state: Any) -> Tensor:
        return torch.stack([values for _, (values,) in components(state)], dim=1)

    for algorithm in (ParticleGibbs(10, 4), ResampleMove(60, move=RandomWalk())):
        means = [algorithm.run(model, OBSERVATIONS, seed=seed).mean(both) for seed in range(10)]
        gap = torch.stack([torch.as_tensor(mean) for mean in means]).mean(0) - smoothed
        assert float(gap.abs().max()) < 0.25


def test_greedy_follows_the_modes_of_the_components() -> None:
    posterior = Greedy().run(Trend(), OBSERVATIONS, seed=0)
    assert float(posterior.particles["level"]) == pytest.approx(0.5 * (1 + 0.9 + 0.81 + 0.729))
    assert float(posterior.particles["slope"]) == pytest.approx(0.5 * 0.9**4)


def test_paths_of_components() -> None:
    paths = BootstrapFilter(6).run(Trend(), OBSERVATIONS, seed=0).trajectories()
    assert {name: values.shape for name, values in paths.items()} == {
        "level": (6, 5),
        "slope": (6, 5),
    }


class Forgetful(StateSpaceModel):
    """Components of several dimensions, of which some do not depend on the previous state."""

    def initial(self) -> Any:
        return {
            "place": dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
            "noise": dist.Normal(0.0, 1.0),
            "table": dist.Normal(torch.zeros(3, 2), 1.0).to_event(2),
        }

    def transition(self, t: int, previous: Any) -> Any:
        return {
            "place": dist.MultivariateNormal(previous["place"], torch.eye(2) / t),
            "noise": dist.Normal(float(t), 0.1),
            "table": dist.Normal(torch.full((3, 2), float(t)), 1.0),
        }

    def observation(self, t: int, state: Any) -> Any:
        return {"place": dist.Normal(state["place"], 1.0), "noise": dist.Normal(0.0, 1.0 + t)}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_laws_of_a_single_particle_are_of_each(count: int) -> None:
    model, generator = Forgetful(), RandomStreams(0).generator(0, "test")
    state = model.sample_initial(count, generator=generator)
    for t in range(1, 4):
        before, state = state, model.sample_transition(t, state, generator=generator)
        shapes = {name: tuple(values.shape) for name, values in state.items()}
        assert shapes == {"place": (count, 2), "noise": (count,), "table": (count, 3, 2)}
        assert model.log_transition(t, before, state).shape == (count,)
    assert len(state["noise"].unique()) == count
    modes = model.mode_transition(3, state)
    assert modes["noise"].tolist() == [3.0] * count and modes["table"].shape == (count, 3, 2)
    observations = [{"place": [0.1, 0.2], "noise": 0.3}, {"place": None, "noise": 1.0}]
    assert check_model(model, observations, num_particles=count)


def test_single_components_of_an_observation_may_be_missing() -> None:
    model, state = (
        Forgetful(),
        Forgetful().sample_initial(3, generator=RandomStreams(0).generator(0, "x")),
    )

    def likelihood(y: Any) -> Tensor:
        return model.log_likelihood(1, state, state, y)

    place = likelihood({"place": [1.0, 2.0], "noise": None})
    noise = likelihood({"place": None, "noise": 0.3})
    torch.testing.assert_close(likelihood({"place": [1.0, 2.0], "noise": 0.3}), place + noise)
    expected = dist.Normal(state["place"], 1.0).log_prob(torch.tensor([1.0, 2.0])).sum(1)
    torch.testing.assert_close(place, expected)
    assert likelihood({"place": None, "noise": None}).tolist() == [0.0] * 3


class TwoSensors(Trend):
    def observation(self, t: int, state: Any) -> Any:
        return dist.Normal(state["level"], 1.0), dist.Normal(state["slope"], 2.0)


@pytest.mark.parametrize("y", [(0.1, 0.2), [0.1, 0.2], torch.tensor([0.1, 0.2])])
def test_an_observation_of_two_parts_is_any_sequence(y: Any) -> None:
    state = {"level": torch.zeros(2), "slope": torch.ones(2)}
    expected = dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.1))
    expected = expected + dist.Normal(1.0, 2.0).log_prob(torch.tensor(0.2))
    found = TwoSensors().log_likelihood(0, None, state, y)
    torch.testing.assert_close(found, expected.expand(2))


@pytest.mark.parametrize("y", [0.1, (0.1,), {"level": 0.1}, (0.1, 0.2, 0.3)])
def test_an_observation_of_other_parts_is_named(y: Any) -> None:
    state = {"level": torch.zeros(2), "slope": torch.ones(2)}
    with pytest.raises(InputError, match=r"components of its law. Got .* at step 3"):
        TwoSensors().log_likelihood(3, state, state, y)


def test_the_part_that_is_no_value_of_its_law_is_named() -> None:
    state = Forgetful().sample_initial(2, generator=RandomStreams(0).generator(0, "x"))
    with pytest.raises(InputError, match=r"observation of step 1 \(noise\) is no value .* Got nan"):
        y = {"place": None, "noise": math.nan}
        Forgetful().log_likelihood(1, state, state, y)


def test_a_transition_to_other_components_is_named() -> None:
    class Grows(Trend):
        def transition(self, t: int, previous: Any) -> Any:
            return {**super().transition(t, previous), "season": dist.Normal(0.0, 1.0)}

    with pytest.raises(InputError, match=r"Got \['level', 'slope'\]; accepted: .*'season'"):
        BootstrapFilter(4).run(Grows(), OBSERVATIONS, seed=0)


A = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])
B = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
EMISSION = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9]])
SYMBOLS = [0, 1, 1, 0]


class TwoChains(StateSpaceModel):
    """Two hidden Markov chains that are observed together."""

    def initial(self) -> Any:
        return {"a": dist.Categorical(A[0]), "b": dist.Categorical(B[0])}

    def transition(self, t: int, previous: Any) -> Any:
        return {"a": dist.Categorical(A[previous["a"]]), "b": dist.Categorical(B[previous["b"]])}

    def observation(self, t: int, state: Any) -> Any:
        return dist.Categorical(EMISSION[2 * state["a"] + state["b"]])


def test_identical_states_coalesce() -> None:
    initial = torch.kron(A[0], B[0])
    exact = HiddenMarkov(initial, torch.kron(A, B), EMISSION).log_evidence(SYMBOLS)
    evidence = []
    for seed in range(100):
        posterior = CoalescingFilter(5, multinomial).run(TwoChains(), SYMBOLS, seed=seed)
        steps = posterior.trajectories().values()
        pairs = list(zip(*(map(tuple, v.tolist()) for v in steps), strict=True))
        assert len(set(pairs)) == len(pairs) <= 5
        evidence.append(math.exp(posterior.log_evidence))
    assert abs(z_score(evidence, math.exp(exact))) < MAX_Z
    first = next(CoalescingFilter(50, systematic).iterate(TwoChains(), SYMBOLS, seed=0))
    assert first.num_particles <= 6
