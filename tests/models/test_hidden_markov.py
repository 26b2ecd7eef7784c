import math
from itertools import product

import pytest
import torch
from torch import Tensor

from llmsmc import InputError, check_model
from llmsmc.models import HiddenMarkov

INITIAL = [0.6, 0.4, 0.0]
TRANSITION = [[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [0.3, 0.3, 0.4]]
OBSERVATION = [[0.9, 0.1], [0.4, 0.6], [0.0, 1.0]]
MODEL = HiddenMarkov(INITIAL, TRANSITION, OBSERVATION)


def joint(path: tuple[int, ...], observations: list[int | None]) -> float:
    value = INITIAL[path[0]]
    for before, after in zip(path, path[1:], strict=False):
        value *= TRANSITION[before][after]
    for state, y in zip(path, observations, strict=True):
        value *= 1.0 if y is None else OBSERVATION[state][y]
    return value


def enumerate_paths(observations: list[int | None]) -> tuple[float, Tensor]:
    """The evidence and the smoothed probabilities `[T, K]`, by summing over all paths."""
    marginals = torch.zeros(len(observations), 3, dtype=torch.float64)
    for path in product(range(3), repeat=len(observations)):
        for t, state in enumerate(path):
            marginals[t, state] += joint(path, observations)
    evidence = float(marginals[0].sum())
    return evidence, marginals / evidence


@pytest.mark.parametrize("observations", [[0], [1, 1, 0, 1], [0, None, 1], [None, None]])
def test_recursions_are_sums_over_paths(observations: list[int | None]) -> None:
    evidence, smoothed = enumerate_paths(observations)
    assert math.exp(MODEL.log_evidence(observations)) == pytest.approx(evidence)
    torch.testing.assert_close(MODEL.smoother(observations), smoothed)
    filtered = MODEL.filter(observations)
    for t in range(len(observations)):
        torch.testing.assert_close(filtered[t], enumerate_paths(observations[: t + 1])[1][-1])


def test_impossible_observations() -> None:
    stuck = HiddenMarkov([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    assert stuck.log_evidence([0, 1, 0]) == -math.inf


def test_the_laws_of_a_model() -> None:
    laws = check_model(MODEL, [0, 1, None, 1])
    assert "the observation has total probability one" in laws


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (([0.5, 0.6], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]]), "sum to one"),
        (([1.5, -0.5], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]]), "probabilities"),
        (([0.5, 0.5], [[1.0]], [[1.0], [1.0]]), "one row for each state"),
        (([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], [[1.0]]), "one row for each state"),
    ],
)
def test_tables_are_checked(tables: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HiddenMarkov(*tables)


def test_an_observation_that_is_no_symbol_is_named() -> None:
    model = HiddenMarkov([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(InputError, match="observation of step 1 is no symbol. Got 5"):
        model.log_evidence([0, 5])
