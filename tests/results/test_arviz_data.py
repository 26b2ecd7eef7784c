"""Posteriors as ArviZ data: the numbers that ArviZ computes are those of the posterior."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import DegenerateWeightsError, InputError, Posterior, StateSpaceModel
from llmsmc.errors import MissingExtraError
from llmsmc.inference import (
    SMC2,
    BootstrapFilter,
    CoalescingFilter,
    ParticleGibbs,
    ParticleMarginalMetropolisHastings,
)
from tests import solutions
from tests.solutions import answering
from tests.toys import WALK_OBSERVATIONS, independent_steps, walk

arviz: Any = pytest.importorskip("arviz")


class LocalLevel(StateSpaceModel):
    scale: Tensor | float = 0.5

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous, self.scale)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 1.0)


OBSERVATIONS = [0.3, -0.1, 0.8, 1.5, 0.2]


@pytest.fixture(scope="module")
def filtered() -> Posterior:
    return BootstrapFilter(200).run(LocalLevel(), OBSERVATIONS, seed=0)


@pytest.fixture(scope="module")
def chains() -> list[Posterior]:
    algorithm = ParticleMarginalMetropolisHastings(
        {"scale": dist.LogNormal(-1.0, 0.5)}, 60, 20, BootstrapFilter(20, record=False)
    )
    return [algorithm.run(LocalLevel(), OBSERVATIONS, seed=seed) for seed in range(2)]


def test_means_and_trajectories_are_those_of_the_posterior(filtered: Posterior) -> None:
    data = filtered.to_arviz()
    x = data.posterior["x"]
    assert x.dims == ("chain", "draw", "step") and x.shape == (1, 200, 5)
    paths = filtered.trajectories().double()
    expected = filtered.mean(lambda particles: paths)
    spread = (filtered.mean(lambda particles: paths.square()) - expected.square()).sqrt()
    # Systematic resampling rounds M W^n up or down: off by less than 1 / M of the range.
    distance = np.abs(x.mean(("chain", "draw")).values - expected.numpy())
    assert (distance < 0.15 * spread.numpy()).all()
    many = filtered.to_arviz(num_draws=20_000).posterior["x"]
    assert many.mean(("chain", "draw")).values == pytest.approx(expected.numpy(), abs=2e-3)


def test_an_unweighted_mean_is_another(filtered: Posterior) -> None:
    raw = filtered.to_arviz(resample=False)
    ordinary = float(raw.posterior["x"][..., -1].mean())
    assert abs(ordinary - float(filtered.mean(lambda x: x))) > 0.01
    weights = raw.sample_stats["log_weight"]
    assert np.exp(weights).sum() == pytest.approx(math.exp(filtered.log_evidence))
    weighted = (raw.posterior["x"].isel(step=-1) * np.exp(weights)).sum() / np.exp(weights).sum()
    assert float(weighted) == pytest.approx(float(filtered.mean(lambda x: x)), abs=1e-5)


def test_the_ess_of_arviz_knows_of_the_weights(filtered: Posterior) -> None:
    data = filtered.to_arviz(num_draws=2000)
    found = arviz.ess(data, method="mean")["x"].values
    assert 0.5 * filtered.effective_sample_size < found[-1] < 2.0 * filtered.effective_sample_size
    assert found[0] < found[-1]  # few forefathers are left of the first step


def test_one_seed_repeats_the_draws(filtered: Posterior) -> None:
    first = filtered.to_arviz(seed=1).sample_stats["particle"].values
    assert np.array_equal(first, filtered.to_arviz(None, 1).sample_stats["particle"].values)
    assert not np.array_equal(first, filtered.to_arviz(seed=2).sample_stats["particle"].values)


def test_no_draw_has_weight_zero(filtered: Posterior) -> None:
    dead = torch.arange(200) % 2 == 0
    halved = replace(filtered, log_weights=filtered.log_weights.masked_fill(dead, -math.inf))
    stats = halved.to_arviz(num_draws=1000).sample_stats
    assert (stats["particle"].values % 2 == 1).all()
    assert np.isfinite(stats["log_weight"].values).all()


def test_the_dead_have_no_draws(filtered: Posterior) -> None:
    dead = replace(filtered, log_weights=filtered.log_weights - math.inf)
    with pytest.raises(DegenerateWeightsError):
        dead.to_arviz()


def test_the_history_is_a_group(filtered: Posterior) -> None:
    data = filtered.to_arviz()
    steps = data.steps
    assert steps["effective_sample_size"].values == pytest.approx(
        [record.effective_sample_size for record in filtered.history]
    )
    assert steps["log_evidence"].values[-1] == pytest.approx(filtered.log_evidence)
    assert steps["num_surviving"].values[-1] == 200
    assert np.isnan(steps["acceptance_rate"].values).all()
    attributes = data.posterior.attrs
    assert attributes["algorithm"] == "BootstrapFilter" and attributes["num_particles"] == 200
    assert attributes["guarantee"] == "unbiased evidence"
    assert attributes["log_evidence"] == filtered.log_evidence
    assert attributes["effective_sample_size"] == filtered.effective_sample_size
    assert dict(data.attrs) == attributes


def test_chains_have_r_hat_and_ess(chains: list[Posterior]) -> None:
    first, *others = chains
    one = first.to_arviz()
    assert one.posterior["scale"].values[0] == pytest.approx(first.particles["scale"].numpy())
    data = first.to_arviz(others=others)
    assert data.posterior["scale"].shape == (2, 60)
    assert 0.9 < float(arviz.rhat(data)["scale"]) < 2.0
    assert 1.0 < float(arviz.ess(data)["scale"]) < 200.0
    assert data.steps["acceptance_rate"].dims == ("run", "step")
    assert len(data.posterior.attrs["seed"]) == 2
    with pytest.raises(InputError, match="equally long"):
        first.to_arviz(
            others=[
                SMC2({"scale": dist.LogNormal(-1.0, 0.5)}, 7, 10).run(
                    LocalLevel(), OBSERVATIONS, seed=0
                )
            ]
        )


def test_particle_gibbs_has_its_chains_and_sweeps() -> None:
    algorithm = ParticleGibbs(5, num_sweeps=8, num_chains=3)
    found = algorithm.run(LocalLevel(), OBSERVATIONS, seed=0)
    data = found.to_arviz()
    particles = data.sample_stats["particle"].values
    assert data.posterior["x"].shape == (3, 40, 5)
    assert np.array_equal(particles // 5 % 3, np.arange(3)[:, None].repeat(40, 1))
    assert (np.diff(particles // 15, axis=1) >= 0).all()
    expected = float(found.mean(lambda x: x))
    assert float(data.posterior["x"].isel(step=-1).mean()) == pytest.approx(expected, abs=0.1)
    assert np.isfinite(arviz.rhat(data)["x"].values).all()


@dataclass
class State:
    level: Tensor
    rest: tuple[Tensor, dict[str, Tensor]]


def tree(offset: float) -> State:
    numbers = torch.arange(3.0) + offset
    return State(numbers, (numbers.bfloat16(), {"step": numbers[:, None].repeat(1, 2) > 1}))


def test_trees_by_name(filtered: Posterior) -> None:
    history = tuple(replace(record, ancestors=torch.arange(3)) for record in filtered.history[:2])
    found = replace(
        filtered,
        particles=tree(1),
        recorded=(tree(0), tree(1)),
        log_weights=filtered.log_weights[:1].repeat(3),
        truncated=filtered.truncated[:3],
        history=history,
    )
    posterior = found.to_arviz().posterior
    assert set(posterior.data_vars) == {"level", "rest.0", "rest.1.step"}
    assert posterior["level"].values.tolist() == [[[0, 1], [1, 2], [2, 3]]]
    assert posterior["rest.1.step"].dims == ("chain", "draw", "step", "rest.1.step_dim_0")
    final = (
        replace(found, recorded=None, particles={"step": torch.arange(3.0)}).to_arviz().posterior
    )
    assert final["step_"].dims == ("chain", "draw")


def test_states_that_grow_have_no_trajectories() -> None:
    found = BootstrapFilter(20).run(walk(), WALK_OBSERVATIONS, seed=0)
    assert found.recorded is not None
    grown = replace(found, recorded=tuple(torch.zeros(20, t + 1) for t in range(4)))
    assert "step" not in grown.to_arviz().posterior["x"].dims


def test_populations_that_merge() -> None:
    found = CoalescingFilter(50).run(independent_steps(), seed=0)
    assert found.to_arviz(num_draws=10).posterior.sizes["draw"] == 10


def test_what_is_no_array_is_refused(filtered: Posterior) -> None:
    class Words:
        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: Any) -> Any:
            return self

    with pytest.raises(InputError, match="Got particles with a Words as 'x'"):
        replace(filtered, particles=Words(), recorded=None).to_arviz()


def test_text(tmp_path: Path) -> None:
    found = solutions.posterior(answering("7", "8", "7", None), [1, 2, 2, 0])
    data = found.to_arviz(num_draws=500)
    answers = data.answers
    assert answers["answer"].values.tolist() == ["7", "8", "no answer"]
    assert answers["probability"].values == pytest.approx([0.6, 0.4, 0.0])
    codes = data.posterior["answer"]
    assert float((codes == 0).mean()) == pytest.approx(0.6, abs=2 / 500)
    assert set(answers["answer"].values[codes.values].ravel()) == {"7", "8"}
    assert set(data.posterior["num_steps"].values.ravel()) == {2}
    data.to_netcdf(str(tmp_path / "data.nc"))
    both = found.to_arviz(num_draws=5, others=[solutions.posterior(answering("9", "7"), [1, 1])])
    assert both.answers["probability"].values == pytest.approx(
        np.array([[0.6, 0.0, 0.4, 0.0], [0.5, 0.5, 0.0, 0.0]])
    )


@pytest.fixture
def without_arviz(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "arviz", None)
    yield


def test_the_extra_is_named(filtered: Posterior, without_arviz: None) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'llmsmc\[arviz\]'"):
        filtered.to_arviz()
