"""Figures of scored steps, compared with their definitions."""

import math

import numpy as np
import pytest

from llmsmc.training.judging import (
    Judged,
    auroc,
    best_temperature,
    brier_score,
    calibration_error,
    figures,
    first_errors,
    interval,
    log_loss,
    reliability,
    sigmoid,
)


def steps(count: int = 400, seed: int = 0, spread: float = 2.0) -> Judged:
    random = np.random.default_rng(seed)
    log_odds = spread * random.normal(size=count)
    labels = (random.random(count) < sigmoid(log_odds)).astype(float)
    numbers = np.arange(count)
    return Judged(
        log_odds=log_odds,
        labels=labels,
        questions=numbers // 8,
        positions=numbers % 4 + 1,
        lengths=numbers % 13 + 1,
        until_error=numbers % 3 > 0,
        is_last=numbers % 4 == 3,
        correct=labels > 0.5,
    )


@pytest.mark.parametrize("digits", [0, 8])
def test_auroc_counts_pairs(digits: int) -> None:
    judged = steps(60)
    log_odds = judged.log_odds.round(digits)  # with ties
    pairs = [
        0.5 if a == b else float(a > b)
        for a, right in zip(log_odds, judged.labels, strict=True)
        for b, other in zip(log_odds, judged.labels, strict=True)
        if right and not other
    ]
    assert auroc(log_odds, judged.labels) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auroc(-log_odds, judged.labels) == pytest.approx(1 - np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize("labels", [np.ones(3), np.zeros(3), np.zeros(0)])
def test_one_class_has_no_auroc(labels: np.ndarray) -> None:
    assert auroc(np.arange(len(labels)) * 1.0, labels) is None


def test_losses_by_hand() -> None:
    log_odds, labels = np.array([0.0, math.log(3), -800.0]), np.array([1.0, 0.25, 0.0])
    expected = (math.log(2) - 0.25 * math.log(0.75) - 0.75 * math.log(0.25)) / 3
    assert log_loss(log_odds, labels) == pytest.approx(expected)
    assert brier_score(log_odds, labels) == pytest.approx((0.25 + 0.25) / 3)
    bins = reliability(log_odds, labels)
    assert [(each["from"], each["steps"]) for each in bins] == [(0.0, 1), (0.5, 1), (0.7, 1)]
    assert calibration_error(log_odds, labels) == pytest.approx((0.5 + 0.5) / 3)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("soft", [False, True])
def test_the_temperature_that_was_put_in_is_found(temperature: float, soft: bool) -> None:
    judged = steps(20000)
    labels = sigmoid(judged.log_odds) if soft else judged.labels
    found = best_temperature(judged.log_odds * temperature, labels)
    assert found == pytest.approx(temperature, rel=1e-6 if soft else 0.05)


def test_temperatures_have_bounds() -> None:
    log_odds = np.array([-1.0, 1.0])
    assert best_temperature(log_odds, np.array([0.0, 1.0])) < 2e-3
    assert best_temperature(log_odds, np.array([1.0, 0.0])) > 500


def test_intervals_are_of_questions() -> None:
    """Steps of a question that are all the same say no more than one of them."""
    judged = steps(400)
    rows = np.repeat(np.arange(0, 400, 8), 8)
    alike = judged[rows]

    def share(each: Judged) -> float:
        return float(each.labels.mean())

    low, high = interval(alike, share) or (0.0, 0.0)
    one = judged[np.arange(0, 400, 8)]
    expected = 2 * 1.96 * math.sqrt(share(one) * (1 - share(one)) / 50)
    assert high - low == pytest.approx(expected, rel=0.15)
    assert interval(judged[judged.questions == 0], share) is None


def test_first_errors() -> None:
    assert first_errors([1.0, 0.6, 0.4, 1.0]) == [True, True, True, False]
    assert first_errors([None, 0.0, None]) == [True, True, False]


def test_figures_have_every_step_once() -> None:
    judged = steps()
    found = figures(judged)
    for key in ("by_length", "reliability"):
        assert sum(each["steps"] for each in found[key]) == len(judged)
    assert sum(each["steps"] for each in found["by_position"][:-1]) == len(judged)
    assert found["by_position"][-1]["position"] == "last"
    low, high = found["auroc_all_steps"]["interval"]
    assert low < found["auroc_all_steps"]["value"] < high
    assert "log_loss" not in figures(judged, are_probabilities=False)


def test_of_no_steps() -> None:
    judged = steps()
    found = figures(judged[np.zeros(len(judged), dtype=bool)])
    assert found["steps"] == 0 and found["log_loss"]["value"] is None
