import pytest
import torch

from llmsmc.genealogy import (
    lineages,
    num_surviving,
    variance_of_mean,
    variance_of_mean_over_lags,
)

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
