"""A model as a Pyro program: each site has the log-density that the model gives it."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, Importance, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import PyroOptim
from torch import Tensor

from benchmarks.parameters import draws_of_nuts, exact
from llmsmc import InputError, StateSpaceModel
from llmsmc.core.particles import components
from llmsmc.models import (
    HiddenMarkov,
    LinearGaussian,
    StochasticVolatility,
    TabularLanguageModel,
    to_pyro,
)
from tests.statistics import MAX_Z, z_score

HALF = torch.tensor(0.5, dtype=torch.float64)


class Trend(StateSpaceModel):
    """Level and slope, both of them seen."""

    drag: Any = 0.9
    noise: Any = 0.3

    def initial(self) -> Any:
        return {"level": dist.Normal(0 * HALF, 1.0), "slope": dist.Normal(HALF, 0.6)}

    def transition(self, t: int, previous: Any) -> Any:
        mean = previous["level"] + previous["slope"]
        slope = self.drag * previous["slope"]
        return {"level": dist.Normal(mean, HALF), "slope": dist.Normal(slope, self.noise)}

    def observation(self, t: int, state: Any) -> Any:
        return {"a": dist.Normal(state["level"], 0.8), "b": dist.StudentT(3.0, state["slope"])}


class Weighed(Trend):
    """A likelihood that is no law, and looks at the previous state."""

    max_steps = 3
    observation = StateSpaceModel.observation

    def log_likelihood(self, t: int, previous: Any, state: Any, y: Any) -> Tensor:
        before = 0.0 if previous is None else previous["level"]
        weight: Tensor = -(state["level"] - before).abs()
        return weight


class Planar(StateSpaceModel):
    """States `[N, 2]` whose law has a batch dimension of its own, once without the past."""

    def initial(self) -> Any:
        return dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        if t == 2:
            return dist.Normal(torch.ones(2, dtype=torch.float64), 2.0)
        return dist.Normal(0.5 * previous, 1.0)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 1.0)


LINEAR = LinearGaussian(
    initial_mean=[0.0, 0.5],
    initial_covariance=torch.eye(2),
    transition_matrix=[[1.0, 1.0], [0.0, 0.9]],
    transition_covariance=[[0.25, 0.1], [0.1, 0.09]],
    observation_matrix=[[1.0, 0.0]],
    observation_covariance=0.64,
)
MARKOV = HiddenMarkov([0.5, 0.5], [[0.9, 0.1], [0.3, 0.7]], [[0.8, 0.2], [0.4, 0.6]])

MODELS: dict[str, tuple[StateSpaceModel, Any]] = {
    "linear-Gaussian": (LINEAR, [[0.3], None, [1.1]]),
    "hidden Markov": (MARKOV, [0, 1, None, 1]),
    "stochastic volatility": (StochasticVolatility(), [0.1, -0.3, 0.2]),
    "components": (Trend(), [{"a": 0.1, "b": 0.7}, {"a": None, "b": 0.2}, None]),
    "weighed": (Weighed(), None),
    "planar": (Planar(), [[0.1, 0.2], [0.3, 0.4], [-1.0, 0.0]]),
    "drawn observations": (type("Short", (Trend,), {"max_steps": 3})(), None),
}


def terms(model: StateSpaceModel, observations: Any, trace: Any) -> dict[str, float]:
    """What the model says of each step of the path that a trace has, by `x_t` and `y_t`."""
    found, previous = {}, None
    for t, state in enumerate(trace.nodes["_RETURN"]["value"]):
        density = model.log_transition(t, previous, state)
        assert density.shape == (1,)
        found[f"x_{t}"] = float(density)
        y = None if observations is None else observations[t]
        if observations is None and type(model).observation is not StateSpaceModel.observation:
            law = model.observation(t, state)
            y = {name: trace.nodes[f"y_{t}.{name}"]["value"][0] for name, _ in components(law)}
        found[f"y_{t}"] = float(model.log_likelihood(t, previous, state, y))
        previous = state
    return found


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_each_site_has_the_density_of_the_model(name: str, seed: int) -> None:
    model, observations = MODELS[name]
    with torch.random.fork_rng():
        pyro.set_rng_seed(seed)
        trace = poutine.trace(to_pyro(model, observations)).get_trace()
    trace.compute_log_prob()
    sums: dict[str, float] = {}
    for site, node in trace.nodes.items():
        if node["type"] == "sample":
            assert node["log_prob"].shape == ()
            step = site.split(".")[0]
            sums[step] = sums.get(step, 0.0) + float(node["log_prob"])
    expected = terms(model, observations, trace)
    assert {step: expected[step] for step in sums} == pytest.approx(sums, abs=1e-10)
    assert all(expected[step] == 0.0 for step in expected.keys() - sums.keys())
    total = sum(expected.values())
    assert float(trace.log_prob_sum()) == pytest.approx(total, abs=1e-10)


def test_another_transition_has_another_density() -> None:
    observations, other = MODELS["components"][1], Trend()
    trace = poutine.trace(to_pyro(Trend(), observations)).get_trace()
    other.drag = 0.8
    expected, found = terms(Trend(), observations, trace), terms(other, observations, trace)
    differ = {name for name in expected if abs(expected[name] - found[name]) > 1e-10}
    assert differ == {"x_1", "x_2"}


def test_the_names_of_the_sites() -> None:
    prior = {"drag": dist.Beta(9.0, 1.0)}
    program = to_pyro(Trend(), [{"a": 0.1, "b": 0.7}, {"a": None, "b": 0.2}], prior=prior)
    nodes = poutine.trace(program).get_trace().nodes
    names = [name for name, node in nodes.items() if node["type"] == "sample"]
    assert names == [
        "drag",
        *["x_0.level", "x_0.slope", "y_0.a", "y_0.b"],
        *["x_1.level", "x_1.slope", "y_1.b"],
    ]


def test_parameters_are_drawn_and_used() -> None:
    prior = {"drag": dist.Beta(9.0, 1.0), "noise": dist.Gamma(3.0, 10.0)}
    observations = MODELS["components"][1]
    trace: Any = poutine.trace(to_pyro(Trend(), observations, prior=prior)).get_trace()
    model = Trend()
    model.drag, model.noise = (trace.nodes[name]["value"] for name in prior)
    total = sum(terms(model, observations, trace).values())
    total += sum(float(law.log_prob(trace.nodes[name]["value"])) for name, law in prior.items())
    assert float(trace.log_prob_sum()) == pytest.approx(total, abs=1e-5)
    assert Trend().drag == 0.9


def test_other_observations_at_the_call() -> None:
    program = to_pyro(MARKOV, [0, 1])
    for arguments, length in (([1, 1, 0],), 3), ((), 2):
        trace: Any = poutine.trace(program).get_trace(*arguments)
        assert len(trace.nodes["_RETURN"]["value"]) == length


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="needs an end. Got a model without `max_steps`"):
        to_pyro(MARKOV)()
    with pytest.raises(InputError, match="Got 'speed' for a Trend"):
        to_pyro(Trend(), [0.1], prior={"speed": dist.Normal(0.0, 1.0)})
    with pytest.raises(InputError, match="A prior names laws"):
        to_pyro(Trend(), [0.1], prior={})
    table = TabularLanguageModel([[[1.0]]], [[0.5]])
    with pytest.raises(NotImplementedError, match="does not define `initial`"):
        to_pyro(table)()


class Stops(Planar):
    max_steps = 50

    def finished(self, state: Tensor) -> Tensor:
        return state[:, 0] > 0.5


def test_a_path_ends_when_it_has_finished() -> None:
    pyro.set_rng_seed(0)
    path = to_pyro(Stops())()
    finished = [bool(Stops().finished(state)) for state in path]
    assert finished == [False] * (len(path) - 1) + [True] and len(path) < 50


def test_importance_sampling_has_the_evidence_of_the_forward_algorithm() -> None:
    pyro.set_rng_seed(0)
    observations = [0, 1, 1]
    sampler = Importance(to_pyro(MARKOV, observations), num_samples=300).run()
    weights = torch.stack([torch.as_tensor(weight) for weight in sampler.log_weights]).exp()
    assert abs(z_score(weights, math.exp(MARKOV.log_evidence(observations)))) < MAX_Z


def test_variational_inference_runs_on_it() -> None:
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    program = to_pyro(Trend(), MODELS["components"][1], prior={"noise": dist.Gamma(3.0, 10.0)})
    optimizer = PyroOptim(torch.optim.Adam, {"lr": 0.02})
    svi = SVI(program, AutoNormal(program), optimizer, Trace_ELBO())
    losses = [svi.step() for _ in range(120)]
    assert sum(losses[-30:]) < sum(losses[:30])


@pytest.mark.quick
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # Pyro compiles by it
def test_nuts_has_the_posterior_of_the_grid() -> None:
    mean, spread = exact(400)[:2].tolist()
    values = draws_of_nuts(0, 300)
    assert abs(z_score(values.reshape(15, 20).mean(1), mean)) < MAX_Z
    squares = (values - mean).square().reshape(15, 20).mean(1)
    assert abs(z_score(squares, spread**2)) < MAX_Z
