"""Every algorithm on vectors observed in part: as if the model had left out what is missing."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from llmsmc import StateSpaceModel
from llmsmc.inference import (
    SMC2,
    Algorithm,
    AuxiliaryFilter,
    BootstrapFilter,
    CoalescingFilter,
    EntropicFilter,
    GuidedFilter,
    IslandFilter,
    NestedFilter,
    ParticleCascade,
    ParticleGibbs,
    ParticleGibbsMove,
    ParticleMarginalMetropolisHastings,
    RandomWalk,
    ResampleMove,
    TemperedSMC,
    TwistedFilter,
)
from llmsmc.models import LinearGaussian, PyroModel
from tests.statistics import MAX_Z, MAX_Z_OF_MANY, z_score

A = torch.tensor([[0.9, 0.1], [-0.2, 0.8]]).double()
Q = torch.tensor([[0.3, 0.1], [0.1, 0.4]]).double()
R = torch.tensor([[0.5, 0.2], [0.2, 0.6]]).double()
ZERO, ONE = torch.zeros(2).double(), torch.eye(2).double()
ROWS: list[Any] = [[0.3, None], [None, -0.4], [0.5, 0.1], None, [1.0, None]]
KEPT = [[k for k, v in enumerate(row or []) if v is not None] for row in ROWS]
LEFT = [[v for v in row if v is not None] if row else None for row in ROWS]
NAN = [torch.tensor([math.nan if v is None else v for v in row or [None] * 2]) for row in ROWS]


class Plane(StateSpaceModel):
    """A walk in the plane; guesses and proposals know nothing of what is missing."""

    drift: Any = 0.1

    def __init__(self, see: Callable[[int, Tensor], Any]) -> None:
        self.see = see

    def initial(self) -> Any:
        return dist.MultivariateNormal(ZERO, ONE)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.MultivariateNormal(previous @ A.T + self.drift, Q)

    def observation(self, t: int, state: Tensor) -> Any:
        return self.see(t, state)

    def proposal(self, t: int, previous: Any, y: Any) -> Any:
        mean, spread = (ZERO, ONE) if previous is None else (previous @ A.T, Q)
        return dist.MultivariateNormal(mean + 0.2, 1.3 * spread)

    def log_lookahead(self, t: int, state: Tensor, y: Any) -> Tensor:
        return 0.5 * self.log_likelihood(t + 1, state, state @ A.T, y)

    def log_twist(self, t: int, state: Tensor, observations: Any) -> Tensor:
        if t + 1 == len(observations):
            return torch.zeros(len(state)).double()
        return self.log_lookahead(t, state, observations[t + 1])


class Walk(Plane):
    """The same with whole paths as states: `[N, T, 2]`, and how many steps there are."""

    def sample_initial(self, num_particles: int, *, generator: Any) -> Any:
        empty = torch.zeros(num_particles, len(ROWS), 2).double()
        none = torch.zeros(num_particles, dtype=torch.long)
        return self.sample_transition(0, (empty, none), generator=generator)

    def sample_transition(self, t: int, previous: Any, *, generator: Any) -> Any:
        path = previous[0].clone()
        noise = torch.randn(len(path), 2, generator=generator).double()
        mean = path[:, t - 1] @ A.T + self.drift if t else ZERO
        path[:, t] = mean + noise @ torch.linalg.cholesky(Q if t else ONE).T
        return path, torch.full((len(path),), t + 1)

    def log_likelihood(self, t: int, previous: Any, state: Any, y: Any) -> Tensor:
        return super().log_likelihood(t, previous, state[0][:, t], y)

    def path_log_likelihood(self, t: int, state: Any, observations: Any) -> Tensor:
        steps = range(min(t + 1, len(ROWS)))
        rows = [self.log_likelihood(s, None, state, observations[s]) for s in steps]
        return torch.stack(rows).sum(0)

    def num_steps(self, state: Any) -> Tensor:
        count: Tensor = state[1]
        return count

    def rewind(self, state: Any, num_steps: Tensor) -> Any:
        return state[0], num_steps


class Program:
    """The same as a program of Pyro."""

    drift: Any = 0.1

    def __init__(self, see: Callable[[int, Tensor, Any], None]) -> None:
        self.see = see

    def init(self, state: Any, y: Any) -> None:
        state["x"] = pyro.sample("x", dist.MultivariateNormal(ZERO, ONE))
        self.t = 0
        self.see(0, state["x"], y)

    def step(self, state: Any, y: Any) -> None:
        self.t += 1
        mean = state["x"] @ A.T + self.drift
        state["x"] = pyro.sample("x", dist.MultivariateNormal(mean, Q))
        self.see(self.t, state["x"], y)


class Guide:
    def init(self, state: Any, y: Any) -> None:
        pyro.sample("x", dist.MultivariateNormal(ZERO + 0.2, 1.3 * ONE))

    def step(self, state: Any, y: Any) -> None:
        pyro.sample("x", dist.MultivariateNormal(state["x"] @ A.T + 0.2, 1.3 * Q))


def joint(t: int, x: Tensor) -> Any:
    return dist.MultivariateNormal(x, R)


def left_out(t: int, x: Tensor) -> Any:
    return dist.MultivariateNormal(x[:, KEPT[t]], R[KEPT[t]][:, KEPT[t]])


def alone_left_out(t: int, x: Tensor) -> Any:
    return dist.Normal(x[:, KEPT[t]], R.diagonal()[KEPT[t]].sqrt()).to_event(1)


def site(law: Callable[[int, Tensor], Any]) -> Callable[[int, Tensor, Any], None]:
    def see(t: int, x: Tensor, y: Any) -> None:
        if y is not None:
            pyro.sample("y", law(t, x), obs=torch.tensor(y) if None not in y else y)

    return see


def sites(t: int, x: Tensor, y: Tensor, masked: bool = False) -> None:
    for k, there in enumerate(~y.isnan()):
        law = dist.Normal(x[:, k], R[k, k].sqrt())
        if masked:
            with poutine.mask(mask=there):
                pyro.sample(f"y{k}", law, obs=y[k])
        else:
            pyro.sample(f"y{k}", law, obs=y[k].nan_to_num(), obs_mask=there)


def masked(t: int, x: Tensor, y: Tensor) -> None:
    sites(t, x, y, masked=True)


def nan_masked(t: int, x: Tensor) -> Any:
    return dist.NanMaskedMultivariateNormal(x, R)


def of_program(see: Callable[[int, Tensor, Any], None]) -> PyroModel:
    return PyroModel(Program(see), Guide())


PAIRS: dict[str, tuple[Any, Any, Any]] = {  # the model, its observations, one without the rest
    "joint": (Plane(joint), ROWS, Plane(left_out)),
    "NaN-masked": (Plane(nan_masked), NAN, Plane(left_out)),
    "paths": (Walk(joint), ROWS, Walk(left_out)),
    "program, joint": (of_program(site(joint)), ROWS, of_program(site(left_out))),
    "program, obs_mask": (of_program(sites), NAN, of_program(site(alone_left_out))),
    "program, mask": (of_program(masked), NAN, of_program(site(alone_left_out))),
}
PRIOR = {"drift": dist.Normal(0.0, 0.5)}
OF_MODELS: dict[str, Algorithm] = {
    "auxiliary": AuxiliaryFilter(8),
    "twisted": TwistedFilter(8),
    "islands": IslandFilter(8, 2),
    "entropic": EntropicFilter(8),
    "nested": NestedFilter(4, 2),
    "cascade": ParticleCascade(8),
    "Gibbs": ParticleGibbs(4, 2, ancestor_sampling=False),
    "Gibbs, backward": ParticleGibbs(4, 2, ancestor_sampling=False, backward_sampling=True),
}
OF_ALL: dict[str, Algorithm] = {
    "bootstrap": BootstrapFilter(8),
    "guided": GuidedFilter(8),
    "coalescing": CoalescingFilter(8),
    "resample-move": ResampleMove(8, move=RandomWalk()),
    "Gibbs, ancestors": ParticleGibbs(4, 2),
    "PMMH": ParticleMarginalMetropolisHastings(PRIOR, 2, 0, BootstrapFilter(4, record=False)),
    "SMC2": SMC2(PRIOR, 4, 4, num_moves=1),
}
OF_PATHS: dict[str, Algorithm] = {
    "suffixes": ResampleMove(8),
    "conditional run": ResampleMove(8, move=ParticleGibbsMove(2)),
    "tempered": TemperedSMC(8, (0.3, 1.0)),
}
ALGORITHMS = OF_MODELS | OF_ALL | OF_PATHS
CASES = [
    *(("joint", name) for name in OF_MODELS | OF_ALL),
    *(("paths", name) for name in OF_PATHS),
    *((pair, "guided") for pair in ("NaN-masked", "program, joint", "program, mask")),
    # A random walk moves what is missing, too: see below.
    *(("program, obs_mask", name) for name in OF_ALL if name != "resample-move"),
]


@pytest.mark.parametrize(("pair", "name"), CASES)
def test_what_is_missing_is_left_out(pair: str, name: str) -> None:
    model, observations, other = PAIRS[pair]
    found = ALGORITHMS[name].run(model, observations, seed=0)
    expected = ALGORITHMS[name].run(other, LEFT, seed=0)
    assert found.log_evidence == pytest.approx(expected.log_evidence, abs=1e-4, nan_ok=True)
    torch.testing.assert_close(found.log_weights, expected.log_weights, rtol=0, atol=1e-4)
    if name == "bootstrap":  # and that is not the same as a zero
        wrong = [torch.tensor([v or 0.0 for v in row or [0.0, 0.0]]) for row in ROWS]
        changed = ALGORITHMS[name].run(model, wrong, seed=0).log_evidence
        assert abs(changed - found.log_evidence) > 0.1


def exact(covariance: Tensor) -> LinearGaussian:
    return LinearGaussian(
        initial_mean=ZERO,
        initial_covariance=ONE,
        transition_matrix=A,
        transition_covariance=Q,
        observation_matrix=ONE,
        observation_covariance=covariance,
    )


def filled(rows: list[Any]) -> list[Any]:
    return [[v or 0.0 for v in row or [0.0, 0.0]] for row in rows]


def test_the_evidence_is_that_of_the_kalman_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "drift", 0.0)
    model, observations, _ = PAIRS["program, obs_mask"]
    algorithm = ResampleMove(24, move=RandomWalk())
    logs = [algorithm.run(model, observations, seed=seed).log_evidence for seed in range(12)]
    reference = exact(torch.diag(R.diagonal()))
    for rows, right in ((ROWS, True), (filled(ROWS), False)):
        ratios = [math.exp(log - reference.log_evidence(rows)) for log in logs]
        assert (abs(z_score(ratios, 1.0)) < MAX_Z) == right


def test_smoothed_means_are_those_of_kalman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plane, "drift", 0.0)
    model, observations, _ = PAIRS["joint"]
    posterior = ParticleGibbs(8, 8, num_warmup=2, num_chains=64).run(model, observations, seed=0)
    values = posterior.trajectories().flatten(1)
    error = torch.as_tensor(posterior.standard_error(lambda _: values))
    for rows, right in ((ROWS, True), (filled(ROWS), False)):
        gaps = posterior.normalized_weights @ values - exact(R).smoother(rows).means.flatten()
        assert (float((gaps / error).abs().max()) < MAX_Z_OF_MANY) == right
