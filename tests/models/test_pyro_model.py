"""Programs of Pyro's `SMCFilter` under the algorithms here, with the evidence it has not."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import InputError, check_model
from llmsmc.inference import (
    SMC2,
    Adaptive,
    BootstrapFilter,
    Greedy,
    GuidedFilter,
    ParticleGibbs,
    RandomWalk,
    ResampleMove,
    multinomial,
)
from llmsmc.inference.resampling.scheme import Resampler
from llmsmc.models import PyroModel
from tests.models.pyro_programs import (
    DRIFTING_WALK,
    INITIAL,
    OSCILLATOR,
    DriftingWalk,
    Echo,
    Oscillator,
    OscillatorGuide,
    Switching,
    echo_evidence,
    switching_evidence,
)
from tests.replicates import replicates
from tests.statistics import MAX_Z, z_score

SEEN = [0.9, 0.2, -0.6, -1.1]
OSCILLATING = PyroModel(Oscillator(), OscillatorGuide(), init_arguments=(INITIAL,))

PROGRAMS: dict[str, tuple[PyroModel, float]] = {
    "oscillator": (OSCILLATING, math.exp(OSCILLATOR.log_evidence(SEEN))),
    "drifting walk": (PyroModel(DriftingWalk()), math.exp(DRIFTING_WALK.log_evidence(SEEN))),
    "switching": (PyroModel(Switching()), switching_evidence(SEEN)),
    "echo": (PyroModel(Echo()), echo_evidence(SEEN)),
}

programs = pytest.mark.parametrize("name", PROGRAMS)


@programs
def test_the_evidence_is_exact(name: str) -> None:
    model, exact = PROGRAMS[name]
    runs = replicates(model, SEEN, num_particles=20, resampler=Adaptive())
    assert abs(z_score(runs.evidence, exact)) < MAX_Z


class SeesWhatItDraws(PyroModel):
    """The density of the sites that are drawn counts as likelihood too."""

    def log_likelihood(self, t: int, previous: Any, state: Any, y: Any) -> Tensor:
        seen = super().log_likelihood(t, previous, state, y)
        return seen + self.log_transition(t, previous, state)


class SeesTheStart(Echo):
    """A program that goes on from what it would have drawn, not from what is seen."""

    def step(self, state: Any, y: Any) -> None:
        x = pyro.sample("x", dist.Normal(0.7 * state["last"], 1.0))
        pyro.sample("y", dist.Normal(x, 0.5), obs=y)
        state["last"] = pyro.sample("again", dist.Normal(x, 0.5))


@pytest.mark.parametrize(
    ("wrong", "exact"),
    [
        (SeesWhatItDraws(DriftingWalk()), PROGRAMS["drifting walk"][1]),
        (PyroModel(SeesTheStart()), PROGRAMS["echo"][1]),
    ],
)
def test_wrong_ones_are_rejected(wrong: PyroModel, exact: float) -> None:
    runs = replicates(wrong, SEEN, num_particles=20, resampler=Adaptive())
    assert abs(z_score(runs.evidence, exact)) > 2 * MAX_Z


def test_a_guide_is_a_proposal() -> None:
    spread = {}
    for algorithm in (BootstrapFilter, GuidedFilter):
        runs = replicates(
            OSCILLATING, SEEN, num_particles=20, resampler=Adaptive(), algorithm=algorithm
        )
        assert abs(z_score(runs.evidence, PROGRAMS["oscillator"][1])) < MAX_Z
        spread[algorithm] = float(runs.evidence.std())
    assert spread[GuidedFilter] < spread[BootstrapFilter]


def moved(num_particles: int, resampler: Resampler, **settings: Any) -> ResampleMove:
    return ResampleMove(num_particles, resampler=resampler, move=RandomWalk(0.3))


@pytest.mark.parametrize("name", ["oscillator", "drifting walk", "echo"])
def test_the_evidence_is_unbiased_with_moves(name: str) -> None:
    model, exact = PROGRAMS[name]
    runs = replicates(
        model, SEEN, num_particles=12, resampler=Adaptive(multinomial, 1.0), algorithm=moved
    )
    rate = runs.posterior.history[-1].acceptance_rate
    assert rate is not None and 0.2 < rate < 0.95
    assert abs(z_score(runs.evidence, exact)) < MAX_Z


@pytest.mark.parametrize("ancestor_sampling", [False, True])
@pytest.mark.parametrize("name", ["oscillator", "drifting walk"])
def test_conditional_runs_have_the_smoothed_means(name: str, ancestor_sampling: bool) -> None:
    model, _ = PROGRAMS[name]
    exact = (OSCILLATOR if name == "oscillator" else DRIFTING_WALK).smoother(SEEN).means[0, 0]
    algorithm = ParticleGibbs(6, 5, 4, num_chains=80, ancestor_sampling=ancestor_sampling)
    posterior = algorithm.run(model, SEEN, seed=0)
    key, column = ("z", 0) if name == "oscillator" else ("x", None)
    first = posterior.trajectories()[key][:, 0]
    values = first if column is None else first[:, column]
    weights = posterior.log_weights.softmax(0).reshape(5, 80, 6)
    chains = (weights * values.reshape(5, 80, 6)).sum((0, 2)) / weights.sum((0, 2))
    assert abs(z_score(chains, float(exact))) < MAX_Z


@programs
def test_the_laws_of_a_model(name: str) -> None:
    laws = check_model(PROGRAMS[name][0], SEEN)
    assert "the law of a particle does not depend on others" in laws


def test_a_posterior_holds_what_the_program_stores() -> None:
    posterior = BootstrapFilter(30).run(OSCILLATING, SEEN, seed=0)
    assert posterior.particles["z"].shape == (30, 2)
    assert posterior.trajectories()["z"].shape == (30, 4, 2)
    again = BootstrapFilter(30).run(OSCILLATING, SEEN, seed=0)
    assert torch.equal(posterior.particles["z"], again.particles["z"])
    assert not hasattr(OSCILLATING.program, "t")


def test_greedy_takes_the_modes() -> None:
    posterior = Greedy().run(PROGRAMS["drifting walk"][0], SEEN, seed=0)
    assert float(posterior.particles["x"]) == pytest.approx(4 * 0.3)


def test_a_missing_observation_is_drawn_and_says_nothing() -> None:
    runs = replicates(OSCILLATING, [0.9, None, -0.6, -1.1], num_particles=20, resampler=Adaptive())
    exact = math.exp(OSCILLATOR.log_evidence([0.9, None, -0.6, -1.1]))
    assert abs(z_score(runs.evidence, exact)) < MAX_Z


def test_a_run_without_observations() -> None:
    model = PyroModel(Oscillator(), init_arguments=(INITIAL,), max_steps=5)
    posterior = BootstrapFilter(7).run(model, seed=0)
    assert posterior.trajectories()["z"].shape == (7, 5, 2)
    assert posterior.log_evidence == pytest.approx(0.0)


class Level:
    """A local level whose drift is a parameter."""

    drift: Any = 0.5

    def init(self, state: Any) -> None:
        state["x"] = pyro.sample("x", dist.Normal(0.0, 1.0))

    def step(self, state: Any, y: Any) -> None:
        state["x"] = pyro.sample("x", dist.Normal(state["x"], self.drift))
        pyro.sample("y", dist.Normal(state["x"], 1.0), obs=y)


def test_parameters_are_attributes_of_the_program() -> None:
    program = Level()
    changed = PyroModel(program).with_parameters({"drift": torch.tensor(2.0)})
    assert program.drift == 0.5
    program.drift = 2.0
    expected = BootstrapFilter(20).run(PyroModel(program), SEEN, seed=0)
    assert BootstrapFilter(20).run(changed, SEEN, seed=0).log_evidence == expected.log_evidence
    with pytest.raises(InputError, match="Got 'speed' for a Level"):
        changed.with_parameters({"speed": torch.tensor(1.0)})
    posterior = SMC2({"drift": dist.Gamma(2.0, 3.0)}, 6, 6).run(PyroModel(program), SEEN, seed=0)
    assert posterior.particles["drift"].shape == (6,)


class InPlates:
    """Three walks in a plate of the program's own."""

    def init(self, state: Any) -> None:
        with pyro.plate("walks", 3, dim=-1):
            state["x"] = pyro.sample("x", dist.Normal(0.0, 1.0))

    def step(self, state: Any, index: int, y: Any) -> None:
        with pyro.plate("walks", 3, dim=-1):
            state["x"] = pyro.sample("x", dist.Normal(state["x"], 0.5))
        pyro.sample("y", dist.Normal(state["x"][:, [index]], 1.0), obs=y)


def test_plates_of_the_program() -> None:
    model = PyroModel(InPlates(), max_plate_nesting=1)
    observations = [(0, torch.tensor(0.3)), (2, torch.tensor(-1.0)), (1, torch.tensor(0.1))]
    runs = replicates(model, observations, num_particles=30, resampler=Adaptive())
    variances = torch.tensor([1.25, 1.5, 1.75]) + 1.0
    law = dist.Normal(torch.zeros(3), variances.sqrt())
    exact = math.exp(float(law.log_prob(torch.tensor([0.3, -1.0, 0.1])).sum()))
    assert abs(z_score(runs.evidence, exact)) < MAX_Z


class NoStep:
    def init(self, state: Any) -> None:
        pass


class TooManyRows(Echo):
    def step(self, state: Any, y: Any) -> None:
        pyro.sample("x", dist.Normal(torch.zeros(len(state["last"]), 2), 1.0))


class TooManyDimensions(Echo):
    def step(self, state: Any, y: Any) -> None:
        pyro.sample("x", dist.Normal(torch.zeros(2, len(state["last"])), 1.0))


class StoresANumber(Echo):
    def step(self, state: Any, y: Any) -> None:
        state["count"] = 1


class StoresTooFew(Echo):
    def step(self, state: Any, y: Any) -> None:
        state["count"] = torch.zeros(3)


class ForeignGuide(OscillatorGuide):
    def step(self, state: Any, y: Any = None) -> None:
        pyro.sample("speed", dist.Normal(torch.zeros(len(state["z"])), 1.0))


class WritingGuide(OscillatorGuide):
    def step(self, state: Any, y: Any = None) -> None:
        state["z"] = torch.zeros_like(state["z"])


def run(program: Any, y: Any = 0.1, **settings: Any) -> Any:
    return BootstrapFilter(5).run(PyroModel(program, **settings), [y], seed=0)


def test_what_is_wrong_with_a_program_is_named() -> None:
    with pytest.raises(InputError, match="program has the methods.*Got a NoStep without `step`"):
        PyroModel(NoStep())
    with pytest.raises(InputError, match="guide has the methods.*Got a NoStep without `step`"):
        PyroModel(Echo(), NoStep())
    with pytest.raises(InputError, match="one row a particle.*at site x .* 5 vs 2' at step 0"):
        run(TooManyRows())
    with pytest.raises(InputError, match=r"Got batch shape \(2, 5\) for 5 particles at site 'x'"):
        run(TooManyDimensions())
    with pytest.raises(InputError, match=r"Got a int as 'count' at step 0; accepted: tensors \[5"):
        run(StoresANumber())
    with pytest.raises(InputError, match=r"Got shape \(3,\) as 'count'"):
        run(StoresTooFew())
    with pytest.raises(InputError, match="observation of step 0 is no number. Got nan at site 'y'"):
        run(Echo(), math.nan)
    with pytest.raises(InputError, match=r"`step` of a Echo does not take.*Got arguments \(1, 2\)"):
        run(Echo(), (1, 2))
    with pytest.raises(InputError, match="site 'y' at step 0 is no value of its law. Got 7"):
        run(Flips(), 7.0)


class Flips(Echo):
    def step(self, state: Any, y: Any) -> None:
        pyro.sample("y", dist.Bernoulli(0.5 * torch.ones(len(state["last"]))), obs=y)


def test_what_is_wrong_with_a_guide_is_named() -> None:
    foreign = PyroModel(Oscillator(), ForeignGuide(), init_arguments=(INITIAL,))
    with pytest.raises(InputError, match=r"Got \['speed'\] at step 0; accepted: \['z_1'\]"):
        GuidedFilter(5).run(foreign, SEEN, seed=0)
    writing = PyroModel(Oscillator(), WritingGuide(), init_arguments=(INITIAL,))
    with pytest.raises(TypeError, match="does not support item assignment"):
        GuidedFilter(5).run(writing, SEEN, seed=0)


class Whimsical(Echo):
    """Draws another site each time it is asked."""

    asked: list[int] = []

    def step(self, state: Any, y: Any) -> None:
        self.asked.append(1)
        pyro.sample(f"x{len(self.asked)}", dist.Normal(torch.zeros(len(state["last"])), 1.0))


class DoesNothing:
    def init(self, state: Any) -> None:
        pass

    def step(self, state: Any, y: Any) -> None:
        pass


def test_a_program_without_particles_is_named() -> None:
    with pytest.raises(InputError, match="Got neither at a step"):
        run(DoesNothing())


def test_other_sites_at_every_call_are_named() -> None:
    with pytest.raises(InputError, match="draws the same sites whenever.*Got 'x2' at step 0"):
        run(Whimsical())
