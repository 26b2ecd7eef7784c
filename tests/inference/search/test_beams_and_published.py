"""Beam search, tree search, the entropic and the published filter: each does what it says."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.wrong_variants import Uncompensated
from llmsmc import InputError, Posterior
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import (
    BeamSearch,
    DiverseVerifierTreeSearch,
    EntropicFilter,
    PublishedParticleFilter,
    multinomial,
    systematic,
)
from llmsmc.models import TabularLanguageModel
from tests.statistics import MAX_Z, z_score
from tests.toys import (
    language_with_eos,
    prefix_scores,
    table_without_end,
)


def scores_on_the_way(model: TabularLanguageModel, posterior: Posterior, t: int) -> Tensor:
    assert posterior.recorded is not None
    return model.path_log_likelihood(t, posterior.recorded[t], None)


@pytest.mark.parametrize("beam_width", [1, 2, 4])
def test_beams_keep_the_best(beam_width: int) -> None:
    model = table_without_end()
    posterior = BeamSearch(8, beam_width=beam_width).run(model, seed=0)
    for t in (1, 2, 3):
        parents = posterior.history[t].ancestors
        scores = scores_on_the_way(model, posterior, t - 1)
        kept = scores.argsort(descending=True, stable=True)[: math.ceil(8 / beam_width)]
        assert parents.bincount(minlength=8)[kept].tolist() == [beam_width] * len(kept)
    final = model.path_log_likelihood(3, posterior.particles, None)
    assert posterior.normalized_weights[final.argmax()] == 1.0
    assert posterior.guarantee == "heuristic"


def test_trees_never_meet() -> None:
    model = table_without_end()
    posterior = DiverseVerifierTreeSearch(12, beam_width=3).run(model, seed=0)
    for t in (1, 2, 3):
        parents = posterior.history[t].ancestors.reshape(4, 3)
        scores = scores_on_the_way(model, posterior, t - 1).reshape(4, 3)
        assert torch.equal(parents, (scores.argmax(1) + 3 * torch.arange(4))[:, None].expand(4, 3))
    assert float(posterior.normalized_weights.max()) == 1.0


@pytest.mark.parametrize("algorithm", [BeamSearch(8), DiverseVerifierTreeSearch(8)])
def test_finished_paths_keep_their_places(algorithm: Any) -> None:
    model = language_with_eos()
    for seed in range(20):
        posterior = algorithm.run(model, seed=seed)
        assert posterior.recorded is not None
        for before, after in zip(posterior.recorded, posterior.recorded[1:], strict=False):
            ended = model.finished(before)
            assert torch.equal(before[ended], after[ended])


def test_more_beams_find_better_paths() -> None:
    model = table_without_end()

    def mean_score(num_particles: int) -> float:
        posteriors = [BeamSearch(num_particles).run(model, seed=seed) for seed in range(60)]
        best = [posterior.best()[None] for posterior in posteriors]
        return float(model.path_log_likelihood(3, torch.cat(best), None).mean())

    assert mean_score(16) > mean_score(4) + 0.05


@pytest.mark.parametrize("scheme", [multinomial, systematic])
@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
def test_the_entropic_filter_is_unbiased(toy: Any, scheme: Any) -> None:
    model = toy()
    evidence = [
        math.exp(
            EntropicFilter(6, ess_threshold=0.9, resampler=scheme).run(model, seed=s).log_evidence
        )
        for s in range(500)
    ]
    assert abs(z_score(evidence, math.exp(model.log_evidence()))) < MAX_Z


@pytest.mark.quick
def test_flattening_without_compensation_is_rejected() -> None:
    model = table_without_end()
    found = {}
    for kind in (EntropicFilter, Uncompensated):
        evidence = [
            math.exp(kind(8, ess_threshold=1.0).run(model, seed=seed).log_evidence)
            for seed in range(600)
        ]
        found[kind] = abs(z_score(evidence, math.exp(model.log_evidence())))
    assert found[EntropicFilter] < MAX_Z < 6 < found[Uncompensated]


def mean_share(model: TabularLanguageModel, num_particles: int, first: int, runs: int) -> float:
    algorithm = PublishedParticleFilter(num_particles, selection="sample", record=False)
    shares = []
    for seed in range(runs):
        posterior = algorithm.run(model, seed=seed)
        shares.append(posterior.mean(lambda states: (states[:, 0] == first).double()))
    return float(torch.stack(shares).mean())


@pytest.mark.parametrize(("length", "published"), [(1, 0.703), (2, 0.769), (4, 0.869), (8, 0.966)])
def test_the_published_filter_favours_what_stops_early(length: int, published: float) -> None:
    # Measured on the published code with 64 particles. Whatever stops has the score .6, all that
    # goes on .5, at all lengths; the target by odds would be .6.
    model = TabularLanguageModel.from_functions(
        2,
        length,
        next_token=lambda prefix: [0.0, 1.0] if prefix else [0.5, 0.5],
        potential=lambda prefix: 1.0 if len(prefix) > 1 else (0.6, 0.5)[prefix[0]],
        eos=0,
    )
    assert model.posterior()[(0,)] == pytest.approx(0.6 / 1.1)
    assert mean_share(model, 64, 0, 150) == pytest.approx(published, abs=0.03)


@pytest.mark.parametrize(
    ("num_particles", "published"),
    [(4, 0.50), (16, 0.79), pytest.param(64, 0.85, marks=pytest.mark.quick)],
)
def test_the_published_filter_counts_prefixes_again(num_particles: int, published: float) -> None:
    # Its target gives "c" .8712, the posterior .2891.
    share = mean_share(prefix_scores(), num_particles, 3, 6000 // num_particles)
    assert share == pytest.approx(published, abs=0.04)


def test_the_published_filter_may_lose_the_best() -> None:
    # N answers of one step with scores between .5 and .6: one more resampling loses the best.
    scores = torch.linspace(0.5, 0.6, 16)
    model = TabularLanguageModel([torch.full((1, 16), 1 / 16)], [scores])
    lost = 0
    for seed in range(400):
        posterior = PublishedParticleFilter(16).run(model, seed=seed)
        drawn = model.sample_initial(16, generator=RandomStreams(seed).generator(0, "propagate"))
        lost += int(posterior.best()[0]) < int(drawn.max())
    assert 0.15 < lost / 400 < 0.45


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="in subtrees of 4; accepted: a multiple"):
        DiverseVerifierTreeSearch(10)
    with pytest.raises(InputError, match="beam_width"):
        BeamSearch(8, beam_width=0)
    with pytest.raises(InputError, match="ess_threshold"):
        EntropicFilter(8, ess_threshold=2.0)
