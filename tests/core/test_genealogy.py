import math

import pytest
import torch

from llmsmc.core.genealogy import (
    batches_of,
    lineages,
    num_surviving,
    relative_variance_of_evidence,
    variance_after_merging,
    variance_between_batches,
    variance_of_mean,
    variance_of_mean_over_lags,
)
from llmsmc.core.history import Merged
from llmsmc.inference import Adaptive, BootstrapFilter, multinomial
from llmsmc.models import TabularLanguageModel
from tests.statistics import MAX_Z, z_score
from tests.toys import table_without_end

THIRDS = torch.full((3,), 1 / 3, dtype=torch.float64)
VALUES = torch.tensor([[1.0], [5.0], [2.0]], dtype=torch.float64)


def test_lineages_follow_the_ancestors() -> None:
    ancestors = [torch.arange(3), torch.tensor([2, 0, 0]), torch.tensor([1, 1, 0])]
    # Final particles 0, 1, 2 come from 1, 1, 0 and these from 0, 0, 2.
    assert lineages(ancestors).tolist() == [[0, 0, 2], [1, 1, 0], [0, 1, 2]]
    assert num_surviving(ancestors) == [2, 2, 3]


def test_families_need_not_be_sorted() -> None:
    # W = 1/3, mean 8/3: families {0, 2} and {1} deviate by -7/9 and 7/9.
    variance = variance_of_mean(THIRDS, VALUES, torch.tensor([0, 1, 0]))
    assert float(variance) == pytest.approx(2 * (7 / 9) ** 2)


def test_a_common_forefather_makes_way_for_later_ones() -> None:
    coalesced = [torch.arange(3), torch.tensor([1, 1, 1]), torch.tensor([0, 1, 0])]
    assert float(variance_of_mean(THIRDS, VALUES, lineages(coalesced)[0])) < 1e-30
    variance = variance_of_mean_over_lags(THIRDS, VALUES, coalesced)
    assert float(variance) == pytest.approx(2 * (7 / 9) ** 2)


def test_without_resampling_it_is_the_variance_of_importance_sampling() -> None:
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    mean = float(weights @ VALUES[:, 0])
    expected = sum((w * (v - mean)) ** 2 for w, v in zip(weights, VALUES[:, 0], strict=True))
    variance = variance_of_mean_over_lags(weights, VALUES, [torch.arange(3)] * 4)
    assert float(variance) == pytest.approx(float(expected))


def test_dead_particles_do_not_count() -> None:
    weights = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    values = torch.tensor([[1.0], [3.0], [torch.nan]], dtype=torch.float64)
    assert float(variance_of_mean(weights, values, torch.arange(3))) == pytest.approx(0.5)


def test_batches_of_a_chain_tell_what_its_correlation_costs() -> None:
    # An autoregression of correlation r: the variance of the mean is (1 + r) / (1 - r) / M.
    correlation, length, chains = 0.8, 2500, 200
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(length, chains, generator=generator, dtype=torch.float64)
    state, rows = noise[0], [noise[0]]
    for row in noise[1:]:
        state = correlation * state + math.sqrt(1 - correlation**2) * row
        rows.append(state)
    weights = torch.full((length,), 1 / length, dtype=torch.float64)
    batches = batches_of(length)
    assert batches.bincount().tolist() == [50] * 50
    variances = variance_between_batches(weights, torch.stack(rows), batches)
    exact = (1 + correlation) / (1 - correlation) / length
    # Batches of 50 see all but what reaches over their ends: about 8 of 100 here.
    assert 0.85 * exact < float(variances.mean()) < exact
    assert float(variances.mean()) > 8 / length


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_the_variance_of_the_evidence_is_read_from_a_single_run(threshold: float) -> None:
    # E[Z^2 V] is the variance of Z, for multinomial resampling.
    model = table_without_end()
    exact = math.exp(model.log_evidence())
    evidence, estimates = [], []
    for seed in range(900):
        posterior = BootstrapFilter(6, Adaptive(multinomial, threshold)).run(model, seed=seed)
        value = math.exp(posterior.log_evidence) / exact
        variance = relative_variance_of_evidence(
            posterior.normalized_weights,
            [record.ancestors for record in posterior.history],
            sum(record.resampled for record in posterior.history),
        )
        # What is below zero belongs to the mean, and a posterior does not show it.
        shown = posterior.log_evidence_variance
        assert shown == pytest.approx(variance) if variance >= 0 else math.isnan(shown)
        evidence.append(value)
        # Where all have one forefather, the formula gives 1.
        estimates.append(value**2 * (1.0 if math.isnan(variance) else variance))
    squares = (torch.tensor(evidence) - 1).square()
    assert abs(z_score(torch.tensor(estimates) - squares, 0.0)) < MAX_Z


def test_the_variance_is_void_where_nothing_can_be_learned() -> None:
    model = table_without_end()
    assert math.isnan(BootstrapFilter(1).run(model, seed=0).log_evidence_variance)
    still = TabularLanguageModel.from_functions(
        2, 3, next_token=lambda prefix: [0.5, 0.5], potential=lambda prefix: 0.7
    )
    posterior = BootstrapFilter(10, Adaptive(multinomial, 0.0)).run(still, seed=0)
    assert posterior.log_evidence_variance == pytest.approx(0.0, abs=1e-12)


def test_without_merging_it_is_that_of_families() -> None:
    ancestors = [torch.arange(3), torch.tensor([2, 0, 0]), torch.tensor([1, 1, 0])]
    alone = [Merged(torch.ones(3, dtype=torch.long), torch.arange(3), True)] * 3
    centred = (VALUES - VALUES.mean()) / 3
    families = variance_of_mean(THIRDS, VALUES, lineages(ancestors)[0])
    variance = variance_after_merging(centred, ancestors, alone)[0]
    assert float(variance) == pytest.approx(1.5 * float(families))  # N / (N - 1)


def test_merged_draws_are_independent_ones() -> None:
    # 70 draws of a coin that showed 1 and 30 that showed 0.
    counts = torch.tensor([70, 30])
    merged = [Merged(counts, torch.arange(2), True)]
    contributions = (counts / 100 * (torch.tensor([1.0, 0.0]) - 0.7)).double()[:, None]
    variance = variance_after_merging(contributions, [torch.arange(2)], merged)[0]
    assert float(variance) == pytest.approx(0.7 * 0.3 / 99)
