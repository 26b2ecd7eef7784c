"""Conditional schemes by Bayes' rule: unconditional, rotated at random, given a child in slot 0."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from benchmarks.wrong_variants import overwritten
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import as_log_weights, normalize
from llmsmc.errors import InputError
from llmsmc.inference import Adaptive
from llmsmc.inference.resampling.blockwise import conditional
from llmsmc.inference.resampling.killing import conditional_killing, killing, killing_rows
from llmsmc.inference.resampling.multinomial import (
    conditional_multinomial,
    multinomial,
)
from llmsmc.inference.resampling.residual import conditional_residual
from llmsmc.inference.resampling.scheme import Batched, Conditional, Resampler, uniforms
from llmsmc.inference.resampling.ssp import ssp
from llmsmc.inference.resampling.stratified import (
    conditional_stratified,
    stratified,
)
from llmsmc.inference.resampling.systematic import (
    conditional_systematic,
)
from llmsmc.registry import RESAMPLERS
from tests.statistics import chi_square_p_value

WEIGHTS = [as_log_weights([math.log(w) for w in row]) for row in ((1, 3, 2), (4, 1, 2), (2, 2, 2))]
NUM_DRAWS = 20_000
LARGEST_P = 1e-6  # of a false alarm, for each comparison


def shuffled(scheme: Batched) -> Callable[[Tensor, Generator], Tensor]:
    def draw(weights: Tensor, generator: Generator) -> Tensor:
        ancestors = scheme(weights, weights.shape[1], generator)
        return ancestors.gather(1, uniforms(weights.shape, generator).argsort(1))

    return draw


def rotated(scheme: Batched) -> Callable[[Tensor, Generator], Tensor]:
    def draw(weights: Tensor, generator: Generator) -> Tensor:
        size = weights.shape[1]
        ancestors = scheme(weights, size, generator)
        offset = (uniforms((len(weights), 1), generator) * size).long()
        return ancestors.gather(1, (torch.arange(size) + offset) % size)

    return draw


LAWS: dict[Resampler, Callable[[Tensor, Generator], Tensor]] = {
    scheme: shuffled(scheme.batched) for scheme in RESAMPLERS.values() if scheme.conditional
} | {killing: rotated(killing_rows)}


def p_value_of_difference(one: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> float:
    """Of the chi-square statistic that two samples come from one law; rare outcomes together."""
    outcomes = sorted(one.keys() | other.keys())
    table = torch.tensor([[one[o], other[o]] for o in outcomes], dtype=torch.float64)
    rare = table.sum(1) < 20
    table = torch.cat([table[~rare], table[rare].sum(0, keepdim=True)])
    table = table[table.sum(1) > 0]
    if len(table) == 1:  # a law of one outcome
        return 1.0
    expected = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
    return chi_square_p_value(table, expected, len(table) - 1)


def joint_laws_agree(
    scheme: Resampler, version: Conditional, log_weights: Tensor, parent: int = 0
) -> float:
    """Draw (ancestors, given who is in slot 0) by rejection and by the conditional version."""
    source = RandomStreams(3).generator(0, "resample")
    num_tries = int(1.5 * NUM_DRAWS)
    weights = normalize(log_weights).expand(num_tries, -1)
    ancestors = LAWS[scheme](weights, source)
    by_rejection = Counter(tuple(row) for row in ancestors.tolist() if row[0] == parent)
    parents = torch.full((NUM_DRAWS,), parent)
    drawn = Counter(tuple(row) for row in version(weights[:NUM_DRAWS], parents, source).tolist())
    return p_value_of_difference(by_rejection, drawn)


@pytest.mark.parametrize("log_weights", WEIGHTS, ids=["light", "heavy", "equal"])
@pytest.mark.parametrize("scheme", LAWS, ids=lambda scheme: scheme.name)
def test_the_joint_law_is_that_of_bayes(scheme: Resampler, log_weights: Tensor) -> None:
    for parent in range(3):
        p_value = joint_laws_agree(scheme, conditional(scheme), log_weights, parent)
        assert p_value > LARGEST_P


def test_overwriting_the_first_of_sorted_ancestors_is_rejected() -> None:
    assert joint_laws_agree(multinomial, overwritten, WEIGHTS[0]) < LARGEST_P
    # Even in random order behind the first the law is another one.
    assert joint_laws_agree(multinomial, _reshuffled(overwritten), WEIGHTS[0]) < LARGEST_P


def _reshuffled(version: Conditional) -> Conditional:
    def draw(weights: Tensor, parents: Tensor, generator: Generator) -> Tensor:
        ancestors = version(weights, parents, generator)
        order = uniforms((len(weights), weights.shape[1] - 1), generator).argsort(1) + 1
        return torch.cat([ancestors[:, :1], ancestors.gather(1, order)], dim=1)

    return draw


@pytest.mark.parametrize(
    "version",
    [
        conditional_multinomial,
        conditional_residual,
        conditional_stratified,
        conditional_systematic,
        conditional_killing,
    ],
)
def test_the_reference_has_its_parent(version: Conditional) -> None:
    source = RandomStreams(0).generator(0, "resample")
    for size in (1, 2, 5, 40):
        for spread in (0.0, 1.0, 30.0):
            log_weights = spread * torch.randn(size, generator=source, dtype=torch.float64)
            weights = normalize(log_weights).expand(size, -1)
            ancestors = version(weights, torch.arange(size), source)
            assert torch.equal(ancestors[:, 0], torch.arange(size))
            assert ancestors.shape == (size, size)
            assert 0 <= int(ancestors.min()) and int(ancestors.max()) < size


def test_an_adaptive_scheme_has_the_version_of_what_is_in_it() -> None:
    assert conditional(Adaptive(stratified, 0.25)) is conditional_stratified


def test_schemes_without_a_conditional_version_are_named() -> None:
    with pytest.raises(InputError, match=r"Got 'ssp'; accepted: multinomial, residual, strat"):
        conditional(ssp)
