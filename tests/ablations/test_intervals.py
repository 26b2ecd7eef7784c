"""Means, errors and intervals against closed forms and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsmc.ablations.intervals import bootstrap_interval, bounded_interval, mean_and_error

differences = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=60)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=60))
def test_the_error_of_single_runs_is_the_binomial_one(values: list[float]) -> None:
    mean, error = mean_and_error(np.array(values))
    assert mean == pytest.approx(sum(values) / len(values))
    assert error == pytest.approx(math.sqrt(mean * (1 - mean) / (len(values) - 1)))


def test_a_single_problem_has_no_error() -> None:
    assert mean_and_error(np.array([0.5])) == (0.5, None)


@given(differences)
def test_matched_pairs_have_the_interval_of_agresti_and_min(values: list[float]) -> None:
    b, c = values.count(1.0) + 0.5, values.count(-1.0) + 0.5
    n = len(values) + 2
    half = 1.959964 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    low, high = bounded_interval(np.array(values))
    assert (low, high) == pytest.approx(((b - c) / n - half, (b - c) / n + half), abs=1e-6)


@given(differences)
def test_the_other_way_round_it_is_the_mirror_image(values: list[float]) -> None:
    low, high = bounded_interval(np.array(values))
    assert bounded_interval(-np.array(values)) == pytest.approx((-high, -low))


def test_no_difference_at_all_is_not_certainty() -> None:
    low, high = bounded_interval(np.zeros(100))
    assert -0.025 < low < -0.015 and high == pytest.approx(-low)


def test_the_bootstrap_of_many_is_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(0.3, 2.0, size=300)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    expected = (values.mean() - half, values.mean() + half)
    assert bootstrap_interval(values) == pytest.approx(expected, abs=0.1 * half)
    assert bootstrap_interval(values) == bootstrap_interval(values)


@pytest.mark.parametrize("num_problems", [20, 100])
@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_intervals_cover_with_seeds_in_clusters(num_problems: int, gap: float) -> None:
    """Problems differ in difficulty; three seeds each. Nominal 95 %; errors of 2,000 runs .005."""
    generator = np.random.default_rng(num_problems)
    covered = 0
    for _ in range(2000):
        easy = generator.beta(0.4, 0.4, size=num_problems)
        left = generator.binomial(3, np.clip(easy + gap * 4 * easy * (1 - easy), 0, 1)) / 3
        right = generator.binomial(3, easy) / 3
        low, high = bounded_interval(left - right)
        # Mean of 4 e (1 - e) under Beta(.4, .4), by its moments.
        mean = gap * 4 * (0.4 * 0.4) / (0.8 * 1.8)
        covered += low <= mean <= high
    assert covered / 2000 > 0.94
