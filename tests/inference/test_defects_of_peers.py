"""Defects of published code that no other test covers; `docs/defects.md` has all of them."""

import math

import pytest
import torch

from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import Adaptive, BootstrapFilter, IslandFilter, multinomial, systematic
from llmsmc.inference.loop.loop import Run
from llmsmc.inference.mcmc.conditional_smc import Chains, sweep
from llmsmc.inference.mcmc.reference import RememberedPaths
from llmsmc.models import TabularLanguageModel
from tests.replicates import check_unbiased, replicates
from tests.toys import prefix_scores


def test_a_score_of_a_prefix_is_counted_once() -> None:
    # Defect 1, toy B: the target is p times the score of the whole answer.
    model = prefix_scores()
    assert math.exp(model.log_evidence()) == pytest.approx(0.484258, abs=1e-6)
    assert model.posterior()[(3,)] == pytest.approx(0.2891, abs=1e-4)
    runs = replicates(model, num_particles=6, resampler=Adaptive(systematic, 1.0))
    check_unbiased(model, runs, num_paths=5)
    posterior = BootstrapFilter(20_000).run(model, seed=0)
    share = posterior.mean(lambda states: (states[:, 0] == 3).double())
    assert float(share) == pytest.approx(0.2891, abs=0.02)


def test_weights_are_used_once() -> None:
    # Defect 3: after resampling the weights are equal, and what is left is that of later steps.
    model = prefix_scores()
    posterior = BootstrapFilter(50, Adaptive(multinomial, 1.0)).run(model, seed=0)
    assert posterior.recorded is not None
    last = posterior.recorded[-1]
    potentials = model.log_likelihood(2, posterior.recorded[-2], last, None)
    ended = (posterior.recorded[-2][posterior.history[-1].ancestors] == model.eos).any(1)
    expected = torch.where(ended, 0.0, potentials)
    gaps = posterior.log_weights - expected
    torch.testing.assert_close(gaps, gaps[:1].expand(50), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("spread", [(0.5, 0.6), (0.1, 0.9)])
def test_the_best_is_never_lost_at_the_end(spread: tuple[float, float]) -> None:
    # Defect 4, toy H: nothing is resampled once all have finished.
    scores = torch.linspace(*spread, 16)
    model = TabularLanguageModel([torch.full((1, 16), 1 / 16)], [scores])
    for seed in range(50):
        posterior = BootstrapFilter(16, Adaptive(multinomial, 1.0)).run(model, seed=seed)
        drawn = model.sample_initial(16, generator=RandomStreams(seed).generator(0, "propagate"))
        assert int(posterior.best()[0]) == int(drawn.max())


def test_a_reference_is_weighed_by_its_own_prefix() -> None:
    # Defect 5, toy C: scores .5, .5, .99; at the first step it weighs as much as the others.
    scores = (0.5, 0.5, 0.99)
    model = TabularLanguageModel.from_functions(
        1, 3, next_token=lambda prefix: [1.0], potential=lambda prefix: scores[len(prefix) - 1]
    )
    run = Run(model, None, RandomStreams(0))
    chains = Chains(1, 4, Adaptive(multinomial, 1.0), ancestor_sampling=False)
    swept = sweep(run, chains, RememberedPaths(torch.zeros(1, 3, dtype=torch.long)), 2, "0")
    for population in swept.populations:
        assert population.log_weights.softmax(0).tolist() == [0.25] * 4


def test_islands_count_by_their_evidence() -> None:
    # Defect 10: what was lost at resampling would make all islands alike.
    model = prefix_scores()
    posterior = IslandFilter(40, 10, Adaptive(multinomial, 1.0)).run(model, seed=0)
    shares = posterior.log_weights.reshape(10, 4).logsumexp(1)
    assert float(shares.std()) > 0.01
    assert posterior.log_evidence == pytest.approx(float(shares.logsumexp(0)))
