"""What a run cannot tell is None or NaN, not a number: evidence, its variance, sizes of samples."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from llmsmc import InputError, StateSpaceModel
from llmsmc.cli.display import cost_table
from llmsmc.core.genealogy import effective_sample_size_of_chain
from llmsmc.evaluation.run_record import history_records
from llmsmc.inference import (
    Algorithm,
    BeamSearch,
    BestOfN,
    BootstrapFilter,
    CoalescingFilter,
    DiverseVerifierTreeSearch,
    Greedy,
    IslandFilter,
    ParticleGibbs,
    ParticleMarginalMetropolisHastings,
    PublishedParticleFilter,
    SelfConsistency,
)
from llmsmc.models import HiddenMarkov
from llmsmc.results import summary
from llmsmc.results.posterior import Posterior
from llmsmc.testing.instances import guided_table
from tests.statistics import MAX_Z, z_score

OBSERVATIONS = [0.3, 1.0, 0.5, -1.0, 0.2]
WITHOUT: tuple[Algorithm, ...] = (
    Greedy(),
    SelfConsistency(4),
    BeamSearch(8),
    DiverseVerifierTreeSearch(8),
    PublishedParticleFilter(4),
)


class Drifting(StateSpaceModel):
    drift: Any = 0.0

    def initial(self) -> Any:
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        return dist.Normal(previous + self.drift, 1.0)

    def observation(self, t: int, state: Tensor) -> Any:
        return dist.Normal(state, 0.5)


def chain(num_iterations: int = 200) -> Posterior:
    algorithm = ParticleMarginalMetropolisHastings(
        {"drift": dist.Normal(0.0, 1.0)},
        num_iterations=num_iterations,
        num_warmup=0,
        inner=BootstrapFilter(10, record=False),
        scale=3.0,
    )
    return algorithm.run(Drifting(), OBSERVATIONS, seed=0)


def each_without() -> list[Posterior]:
    return [*(algorithm.run(guided_table(), seed=0) for algorithm in WITHOUT), chain(20)]


def test_there_is_none_where_none_is_estimated(tmp_path: Path) -> None:
    for posterior in each_without():
        assert posterior.log_evidence is None and math.isnan(posterior.log_evidence_variance)
        assert [record.log_evidence for record in posterior.history] == [None] * len(
            posterior.history
        )
        assert "log_evidence=None" in repr(posterior)
        assert "<dt>log-evidence</dt><dd>none</dd>" in posterior._repr_html_()
        assert summary.log_evidence_error(posterior) is None
        assert json.loads(json.dumps(history_records(posterior.history)))[0]["log_evidence"] is None
        cells = cost_table(posterior, 0.0, "a reward").columns[1].cells
        assert next(iter(list(cells)[1:])) == "-"
        with pytest.raises(InputError, match="no evidence to be drawn"):
            posterior.plot_evidence()
        posterior.save(tmp_path / posterior.algorithm)
        assert Posterior.load(tmp_path / posterior.algorithm).log_evidence is None


def test_files_that_have_a_number_there_are_read(tmp_path: Path) -> None:
    for posterior in each_without():
        total = float(posterior.log_weights.logsumexp(0))
        history = tuple(replace(record, log_evidence=total) for record in posterior.history)
        before = replace(posterior, log_evidence=total, history=history)
        before.save(tmp_path / posterior.algorithm)
        assert Posterior.load(tmp_path / posterior.algorithm).log_evidence == total


def test_arviz_has_no_number() -> None:
    data = pytest.importorskip("arviz") and chain(20).to_arviz()
    assert math.isnan(data.attrs["log_evidence"])
    assert data.steps["log_evidence"].isnull().all()


@pytest.mark.parametrize(
    "algorithm",
    [ParticleGibbs(8, num_sweeps=3), BestOfN(8)],
    ids=["of another run", "after a selection"],
)
def test_weights_of_something_else_have_no_variance_of_the_evidence(algorithm: Algorithm) -> None:
    posterior = algorithm.run(guided_table(), seed=0)
    assert math.isfinite(posterior.log_evidence) and math.isnan(posterior.log_evidence_variance)


def test_a_variance_is_not_below_zero() -> None:
    model = HiddenMarkov(
        [0.5, 0.3, 0.2],
        [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
        [[0.8, 0.2], [0.3, 0.7], [0.1, 0.9]],
    )
    for algorithm in (CoalescingFilter(10), IslandFilter(8), BootstrapFilter(6)):
        found = [
            algorithm.run(model, [0, 1, 1, 0, 1] * 4, seed=seed).log_evidence_variance
            for seed in range(30)
        ]
        assert all(math.isnan(variance) or variance >= 0 for variance in found)
        assert sum(math.isnan(variance) for variance in found) < 25


def test_islands_are_compared_with_each_other() -> None:
    # E[Z^2 V] is the variance of the mean of independent evidences, whatever the resampling.
    runs = [
        IslandFilter(12, num_islands=3).run(Drifting(), OBSERVATIONS, seed=seed)
        for seed in range(400)
    ]
    log_evidence = torch.tensor([run.log_evidence for run in runs])
    evidence = (log_evidence - log_evidence.logsumexp(0)).exp().double() * len(runs)
    variances = torch.tensor([run.log_evidence_variance for run in runs]).double()
    squares = (evidence - 1).square()
    assert abs(z_score(evidence.square() * variances - squares, 0.0)) < MAX_Z
    families = torch.tensor(
        [replace(run, metadata={}).log_evidence_variance for run in runs]
    ).nan_to_num(0.0)
    assert float(families.mean()) != pytest.approx(float(variances.mean()), rel=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_size_of_a_chain(correlation: float) -> None:
    # An autoregression of correlation r is worth (1 - r) / (1 + r) of its length.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 20, generator=generator, dtype=torch.float64)
    rows = [noise[0]]
    for row in noise[1:]:
        rows.append(correlation * rows[-1] + math.sqrt(1 - correlation**2) * row)
    values = torch.stack(rows)
    sizes = [effective_sample_size_of_chain(values[:, k : k + 1]) for k in range(20)]
    exact = 4000 * (1 - correlation) / (1 + correlation)
    assert sum(sizes) / 20 == pytest.approx(exact, rel=0.1)
    assert effective_sample_size_of_chain(values) == pytest.approx(min(sizes))


def test_a_chain_is_not_as_good_as_its_length() -> None:
    posterior = chain()
    size = posterior.effective_sample_size
    assert 2 < size < 60
    arviz = pytest.importorskip("arviz")
    assert 0.5 < size / float(arviz.ess(posterior.to_arviz())["drift"]) < 2
    still = replace(posterior, particles={"drift": torch.zeros(posterior.num_particles)})
    assert still.effective_sample_size == 1.0 and not summary.has_spread(still)


def test_islands_that_are_no_islands_are_refused() -> None:
    posterior = IslandFilter(8).run(Drifting(), OBSERVATIONS, seed=0)
    posterior.check()
    for number in (3, 0):
        with pytest.raises(InputError, match=f"Islands are equally large. Got {number}"):
            replace(posterior, metadata={"num_islands": number}).check()
