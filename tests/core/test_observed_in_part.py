"""Single numbers of an observation may be missing: None, NaN where a law or a mask says so."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from llmsmc import InputError, StateSpaceModel, check_model
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LinearGaussian, PyroModel, to_pyro
from tests.statistics import MAX_Z, z_score

nan = math.nan
A = torch.tensor([[0.9, 0.1], [-0.2, 0.8]], dtype=torch.float64)
Q = torch.tensor([[0.3, 0.1], [0.1, 0.4]], dtype=torch.float64)
R = torch.tensor([[0.5, 0.2], [0.2, 0.6]], dtype=torch.float64)
SCALE = R.diagonal().sqrt()
ROWS: list[Any] = [[0.3, None], [None, -0.4], [0.5, 0.1], None, [None, None], [1.0, None]]
NAN_ROWS = [
    torch.tensor([nan if v is None else v for v in row or [None, None]], dtype=torch.float64)
    for row in ROWS
]
STATES = torch.tensor([[0.1, -0.5], [0.7, 0.2], [-1.0, 0.3]], dtype=torch.float64)


def exact(covariance: torch.Tensor) -> LinearGaussian:
    return LinearGaussian(
        initial_mean=[0.0, 0.0],
        initial_covariance=torch.eye(2, dtype=torch.float64),
        transition_matrix=A,
        transition_covariance=Q,
        observation_matrix=torch.eye(2, dtype=torch.float64),
        observation_covariance=covariance,
    )


class Plane(StateSpaceModel):
    """A walk in the plane, seen by a law that is given."""

    def __init__(self, law: Callable[[Any], Any]) -> None:
        self.law = law

    def initial(self) -> Any:
        return dist.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())

    def transition(self, t: int, previous: Any) -> Any:
        return dist.MultivariateNormal(previous @ A.T, Q)

    def observation(self, t: int, state: Any) -> Any:
        return self.law(state)


class Program:
    """The same as a program of Pyro; `see` has the sites that are observed."""

    def __init__(self, see: Callable[[Any, Any], None]) -> None:
        self.see = see

    def init(self, state: Any, y: Any) -> None:
        zero, one = torch.zeros(2).double(), torch.eye(2).double()
        state["x"] = pyro.sample("x", dist.MultivariateNormal(zero, one))
        self.see(state["x"], y)

    def step(self, state: Any, y: Any) -> None:
        state["x"] = pyro.sample("x", dist.MultivariateNormal(state["x"] @ A.T, Q))
        self.see(state["x"], y)


def normal(x: Any) -> Any:
    return dist.Normal(x, SCALE).to_event(1)


def joint(x: Any) -> Any:
    return dist.MultivariateNormal(x, R)


LAWS: dict[str, tuple[Callable[[Any], Any], bool, bool]] = {  # whether independent, takes NaN
    "normal": (normal, True, False),
    "normal, a batch": (lambda x: dist.Normal(x, SCALE), True, False),
    "normal of torch": (
        lambda x: torch.distributions.Independent(torch.distributions.Normal(x, SCALE), 1),
        True,
        False,
    ),
    "NaN-masked": (lambda x: dist.NanMaskedNormal(x, SCALE).to_event(1), True, True),
    "joint": (joint, False, False),
    "joint of torch": (lambda x: torch.distributions.MultivariateNormal(x, R), False, False),
    "low rank": (
        lambda x: dist.LowRankMultivariateNormal(
            x, torch.full((2, 1), 0.2**0.5).double(), torch.tensor([0.3, 0.4]).double()
        ),
        False,
        False,
    ),
    "NaN-masked, joint": (lambda x: dist.NanMaskedMultivariateNormal(x, R), False, True),
}
each_law = pytest.mark.parametrize("name", LAWS)


def in_part(independent: bool, states: Any, row: Any) -> Any:
    """The marginal density, written out."""
    covariance = torch.diag(R.diagonal()) if independent else R
    kept = [k for k, v in enumerate(row or []) if v is not None]
    if not kept:
        return torch.zeros(len(states), dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(states[:, kept], covariance[kept][:, kept])
    return law.log_prob(torch.tensor([row[k] for k in kept], dtype=torch.float64))


@each_law
@pytest.mark.parametrize("t", range(len(ROWS)))
def test_the_likelihood_is_that_of_what_is_there(name: str, t: int) -> None:
    law, independent, takes_nan = LAWS[name]
    expected = in_part(independent, STATES, ROWS[t])
    wanted = [ROWS[t], np.array(ROWS[t], dtype=object) if ROWS[t] else None]
    for y in [*wanted, *([NAN_ROWS[t], NAN_ROWS[t].float()] if takes_nan else [])]:
        found = Plane(law).log_likelihood(t, STATES, STATES, y)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def seen(name: str) -> Callable[[Any, Any], Any]:
    return lambda x, y: pyro.sample("y", LAWS[name][0](x), obs=y)


def masked(how: str) -> Callable[[Any, Any], None]:
    def see(x: Any, y: Any) -> None:
        present = ~y.isnan()
        for k in range(2):
            law = dist.Normal(x[:, k], SCALE[k])
            if how == "obs_mask":
                pyro.sample(f"y{k}", law, obs=y[k], obs_mask=present[k])
            elif how == "obs_mask of numbers":
                pyro.sample(f"y{k}", law, obs=y[k].nan_to_num(), obs_mask=present[k])
            else:
                with poutine.mask(mask=present[k]):
                    pyro.sample(f"y{k}", law, obs=y[k])

    return see


@pytest.mark.parametrize(
    ("see", "independent", "rows"),
    [
        pytest.param(seen(name), LAWS[name][1], ROWS, id=name)
        for name in ("normal", "NaN-masked", "joint", "NaN-masked, joint")
    ]
    + [
        pytest.param(seen(name), LAWS[name][1], NAN_ROWS, id=f"{name}, of NaN")
        for name in ("NaN-masked", "NaN-masked, joint")
    ]
    + [
        pytest.param(masked(how), True, NAN_ROWS, id=how)
        for how in ("obs_mask", "obs_mask of numbers", "mask")
    ],
)
def test_programs(see: Callable[[Any, Any], None], independent: bool, rows: list[Any]) -> None:
    model = PyroModel(Program(see)).given(rows)
    state = model.sample_initial(3, generator=torch.Generator().manual_seed(0))
    found = model.log_likelihood(0, None, state, rows[0])
    expected = in_part(independent, state.stored["x"], ROWS[0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    check_model(PyroModel(Program(see)), rows)
    reference = exact(torch.diag(R.diagonal()) if independent else R).log_evidence(ROWS)
    estimate = BootstrapFilter(500).run(PyroModel(Program(see)), rows, seed=0).log_evidence
    assert abs(estimate - reference) < 0.3


@pytest.mark.parametrize(
    "row",
    [
        np.array([0.3, None]),
        np.ma.array([0.3, -999.0], mask=[False, True]),
        (np.float64(0.3), None),
        [torch.tensor(0.3), None],
        pd.Series([0.3, None], dtype=object),
    ],
)
def test_rows_of_other_types(row: Any) -> None:
    expected = in_part(False, STATES, [0.3, None])
    torch.testing.assert_close(
        Plane(joint).log_likelihood(0, None, STATES, row), expected, rtol=1e-6, atol=1e-6
    )
    reference = exact(R).log_evidence([[0.3, None]])
    assert exact(R).log_evidence([row]) == pytest.approx(reference, abs=1e-7)


@pytest.mark.parametrize(
    "row", [np.array([None, None]), np.ma.array([0.0, 0.0], mask=True), (None, None)]
)
def test_nothing_there_counts_nothing(row: Any) -> None:
    assert exact(R).log_evidence([row]) == 0.0
    assert not bool(Plane(joint).log_likelihood(0, None, STATES, row).any())


@pytest.mark.parametrize("value", [[None, None], torch.tensor([nan, nan])])
def test_a_site_of_which_nothing_is_there(value: Any) -> None:
    def see(x: Any, y: Any) -> None:
        law = dist.Gamma(x.square() + 1, 1.0).to_event(1)  # nothing below zero is a value of it
        with poutine.mask(mask=isinstance(y, list)):
            pyro.sample("y", law, obs=y)

    model = PyroModel(Program(see)).given([value])
    state = model.sample_initial(3, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    assert not bool(model.log_likelihood(0, None, state, value).any())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "row",
    [
        [0.1, None, 0.2],
        [0.1],
        [None],
        [None] * 3,
        [0.1, [None]],
        ["a", None],
        [1j, None],
        {0.1},
        [],
    ],
)
def test_rows_that_do_not_fit_are_refused(row: Any) -> None:
    for law in (joint, normal):
        with pytest.raises(InputError, match="is no value of its law|is made of numbers"):
            Plane(law).log_likelihood(0, None, STATES, row)
    with pytest.raises(InputError, match="does not fit|is made of numbers"):
        exact(R).log_evidence([row])


@each_law
def test_check_model_accepts_them(name: str) -> None:
    law, _, takes_nan = LAWS[name]
    check_model(Plane(law), ROWS)
    if takes_nan:
        check_model(Plane(law), NAN_ROWS)


def test_the_evidence_is_that_of_the_kalman_filter() -> None:
    rows = ROWS[:3]
    reference = exact(R).log_evidence(rows)
    runs = [BootstrapFilter(300).run(Plane(joint), rows, seed=seed) for seed in range(50)]
    ratios = [math.exp(run.log_evidence - reference) for run in runs]
    assert abs(z_score(ratios, 1.0)) < MAX_Z
    wrong = exact(R).log_evidence([[v or 0.0 for v in row] for row in rows])
    assert abs(z_score([r * math.exp(reference - wrong) for r in ratios], 1.0)) > MAX_Z


def test_the_kalman_filter_itself() -> None:
    first = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2) + R)
    value = torch.tensor([0.3]).double()
    marginal = torch.distributions.Normal(first.loc[:1], first.covariance_matrix[:1, 0].sqrt())
    model = exact(R)
    assert model.log_evidence([[0.3, None]]) == pytest.approx(float(marginal.log_prob(value)))
    assert model.log_evidence([[None, None]]) == model.log_evidence([None]) == 0.0
    posterior = BootstrapFilter(5).run(model, [[0.3, None], None, [None, None]], seed=0)
    assert math.isfinite(posterior.log_evidence)
    with pytest.raises(InputError, match="None where it, or one of them"):
        model.log_evidence([[0.3, nan]])


def test_the_same_as_a_program_of_pyro() -> None:
    program = to_pyro(Plane(joint), ROWS)
    pyro.set_rng_seed(0)
    trace = poutine.trace(program).get_trace()
    assert [name for name in trace.nodes if name.startswith("y_")] == ["y_0", "y_1", "y_2", "y_5"]
    for t in (0, 1, 2, 5):
        node: Any = trace.nodes[f"y_{t}"]
        expected = in_part(False, trace.nodes[f"x_{t}"]["value"], ROWS[t])
        torch.testing.assert_close(
            node["fn"].log_prob(node["value"]), expected[0], rtol=1e-6, atol=1e-6
        )


P = torch.tensor([[0.2, 0.3], [0.6, 0.9], [0.5, 0.5]])
ROW_LAWS: dict[str, tuple[Any, Any, Any]] = {  # a law of rows, a row, the density of what is there
    "Booleans": (dist.Bernoulli(P).to_event(1), [None, True], P[:, 1].log()),
    "Booleans as numbers": (dist.Bernoulli(P).to_event(1), [0.0, None], (1 - P[:, 0]).log()),
    "integers": (
        dist.Poisson(P).to_event(1),
        [2, None],
        2 * P[:, 0].log() - P[:, 0] - math.log(2),
    ),
    "symbols": (
        dist.Categorical(torch.stack([1 - P, P], -1)).to_event(1),
        [None, 1],
        P[:, 1].log(),
    ),
    "positive numbers": (
        dist.Exponential(P).to_event(1),
        (None, 2.0),
        P[:, 1].log() - 2 * P[:, 1],
    ),
    "a matrix": (
        dist.Normal(P[:, :, None].expand(3, 2, 2), 1.0).to_event(2),
        [[0.5, None], None],
        -0.5 * (0.5 - P[:, 0]).square() - 0.5 * math.log(2 * math.pi),
    ),
    "rows of normal laws": (
        dist.MultivariateNormal(P[:, None].expand(3, 2, 2), torch.eye(2)).to_event(1),
        [[0.5, None], [None, 0.5]],
        -0.5 * (0.5 - P).square().sum(1) - math.log(2 * math.pi),
    ),
    "parts": (
        (dist.Normal(P, 1.0).to_event(1), dist.Bernoulli(P[:, 0])),
        ([None, 0.5], True),
        -0.5 * (0.5 - P[:, 1]).square() - 0.5 * math.log(2 * math.pi) + P[:, 0].log(),
    ),
    "parts by name": (
        {"a": dist.Normal(P, 1.0).to_event(1), "b": dist.Bernoulli(P[:, 0])},
        {"a": [None, None], "b": True},
        P[:, 0].log(),
    ),
}


@pytest.mark.parametrize("name", ROW_LAWS)
def test_rows_of_other_kinds(name: str) -> None:
    law, row, expected = ROW_LAWS[name]
    found = Plane(lambda state: law).log_likelihood(0, None, STATES, row)
    torch.testing.assert_close(found, expected.to(found.dtype))


@pytest.mark.parametrize(
    ("law", "row", "message"),
    [
        (normal, [0.3, nan], r"step 0 is no value .*None in place of it, or of single numbers"),
        (joint, torch.tensor([nan, 0.1]), r"step 0 is no value .* where they are missing"),
        (
            lambda x: dist.Dirichlet(torch.ones(3, 3)),
            [0.5, None, 0.2],
            "1 of 3 missing, of a Dirichlet",
        ),
        (lambda x: dist.Bernoulli(P).to_event(1), [None, 2.0], "is no value of its law"),
        (lambda x: dist.Normal(x[:, 0], 1.0), [0.3, None], "single y_t"),
        (normal, [0.3, None, 0.1], "is no value of its law"),
    ],
)
def test_what_is_refused(law: Any, row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plane(law).log_likelihood(0, None, STATES, row)


@pytest.mark.parametrize("row", [[0.3, nan], torch.tensor([nan, 0.1])])
def test_a_program_says_what_is_accepted(row: Any) -> None:
    with pytest.raises(InputError, match="None in place of it, or of single numbers"):
        BootstrapFilter(4).run(PyroModel(Program(seen("normal"))), [row], seed=0)
