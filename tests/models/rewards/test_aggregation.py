"""What the names of the aggregations mean, from one definition each."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsmc import InputError
from llmsmc.models.rewards.aggregation import aggregation
from llmsmc.registry import AGGREGATIONS

DEFINITIONS: dict[str, Callable[[list[float]], float]] = {
    "product": math.prod,
    "last": lambda scores: scores[-1] if scores else 1.0,
    "min": lambda scores: min(scores, default=1.0),
    "model": lambda scores: scores[-1] if scores else 1.0,
    "odds": lambda scores: math.prod(score / (1 - score) for score in scores),
    "exp": lambda scores: math.exp(sum(scores)),
}


@pytest.mark.parametrize("name", DEFINITIONS)
@settings(deadline=None)
@given(rows=st.lists(st.lists(st.floats(0.01, 0.99), max_size=5), min_size=1, max_size=4))
def test_definitions(name: str, rows: list[list[float]]) -> None:
    width = max(map(len, rows))
    log_odds = torch.full((len(rows), width), torch.nan, dtype=torch.float64)
    for n, scores in enumerate(rows):
        log_odds[n, : len(scores)] = torch.tensor(scores, dtype=torch.float64).logit()
    found = AGGREGATIONS[name].log_score(log_odds, ~log_odds.isnan())
    expected = [math.log(DEFINITIONS[name](scores)) for scores in rows]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_only_the_two_of_the_published_code_are_heuristics() -> None:
    assert {name for name in AGGREGATIONS if AGGREGATIONS[name].heuristic} == {"odds", "exp"}
    assert {n for n in AGGREGATIONS if AGGREGATIONS[n].reading == "prefix"} == {"model"}


def test_names() -> None:
    assert aggregation("min") is AGGREGATIONS["min"]
    assert aggregation(AGGREGATIONS["min"]) is AGGREGATIONS["min"]
    with pytest.raises(InputError, match="'mean'.*'product'"):
        aggregation("mean")
