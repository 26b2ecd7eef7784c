"""Conditional schemes by Bayes' rule: unconditional, rotated at random, given a child in slot 0."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from llmsmc.errors import InputError
from llmsmc.inference import Adaptive
from llmsmc.inference.conditional_resamplers import (
    conditional,
    conditional_killing,
    conditional_multinomial,
    conditional_residual,
    conditional_stratified,
    conditional_systematic,
)
from llmsmc.inference.killing_resampler import killing
from llmsmc.inference.resamplers import (
    Resampled,
    Resampler,
    equally_weighted,
    multinomial,
    residual,
    stratified,
    systematic,
    uniforms,
)
from llmsmc.inference.ssp_resampler import ssp
from llmsmc.randomness import RandomStreams
from llmsmc.weights import as_log_weights, log_evidence, normalize
from tests.statistics import chi_square_p_value

WEIGHTS = [as_log_weights([math.log(w) for w in row]) for row in ((1, 3, 2), (4, 1, 2), (2, 2, 2))]
NUM_DRAWS = 1500
LARGEST_P = 1e-6  # of a false alarm, for each comparison


def shuffled(scheme: Resampler) -> Callable[[Tensor, Generator], Tensor]:
    def draw(log_weights: Tensor, generator: Generator) -> Tensor:
        ancestors = scheme(log_weights, generator=generator).ancestors
        return ancestors[uniforms(len(ancestors), generator).argsort()]

    return draw


def rotated(scheme: Resampler) -> Callable[[Tensor, Generator], Tensor]:
    def draw(log_weights: Tensor, generator: Generator) -> Tensor:
        ancestors = scheme(log_weights, generator=generator).ancestors
        return ancestors.roll(int(uniforms(1, generator) * len(ancestors)))

    return draw


LAWS = {
    multinomial: shuffled(multinomial),
    residual: shuffled(residual),
    stratified: shuffled(stratified),
    systematic: shuffled(systematic),
    killing: rotated(killing),
}


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


def joint_laws_agree(scheme: Resampler, version: Resampler, log_weights: Tensor) -> float:
    """Draw (ancestors, given one in slot 0) by rejection and by the conditional version."""
    source = RandomStreams(3).generator(0, "resample")
    by_rejection, drawn = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    while by_rejection.total() < NUM_DRAWS * float(normalize(log_weights)[0]) * 1.5:
        ancestors = LAWS[scheme](log_weights, source)
        if ancestors[0] == 0:
            by_rejection[tuple(ancestors.tolist())] += 1
    for _ in range(NUM_DRAWS):
        drawn[tuple(version(log_weights, generator=source).ancestors.tolist())] += 1
    return p_value_of_difference(by_rejection, drawn)


@pytest.mark.parametrize("log_weights", WEIGHTS, ids=["light", "heavy", "equal"])
@pytest.mark.parametrize("scheme", LAWS, ids=lambda scheme: scheme.__name__)
def test_the_joint_law_is_that_of_bayes(scheme: Resampler, log_weights: Tensor) -> None:
    assert joint_laws_agree(scheme, conditional(scheme), log_weights) > LARGEST_P


def overwritten(
    log_weights: Tensor, *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """The well-known error: sorted ancestors, of which the first is overwritten."""
    ancestors = multinomial(log_weights, generator=generator).ancestors.sort().values
    ancestors[0] = 0
    return equally_weighted(ancestors, log_weights)


def test_overwriting_the_first_of_sorted_ancestors_is_rejected() -> None:
    assert joint_laws_agree(multinomial, overwritten, WEIGHTS[0]) < LARGEST_P
    # Even in random order behind the first the law is another one.
    assert joint_laws_agree(multinomial, _reshuffled(overwritten), WEIGHTS[0]) < LARGEST_P


def _reshuffled(scheme: Resampler) -> Resampler:
    def draw(
        log_weights: Tensor, *, generator: Generator, num_offspring: int | None = None
    ) -> Resampled:
        ancestors, carried, _ = scheme(log_weights, generator=generator)
        order = uniforms(len(ancestors) - 1, generator).argsort() + 1
        return Resampled(torch.cat([ancestors[:1], ancestors[order]]), carried)

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
def test_the_reference_stays_and_the_mass_is_kept(version: Resampler) -> None:
    source = RandomStreams(0).generator(0, "resample")
    for size in (1, 2, 5, 40):
        for spread in (0.0, 1.0, 30.0):
            log_weights = spread * torch.randn(size, generator=source, dtype=torch.float64)
            for _ in range(5):
                ancestors, carried, _ = version(log_weights, generator=source)
                assert ancestors[0] == 0 and len(ancestors) == size
                assert log_evidence(carried) == pytest.approx(log_evidence(log_weights))


def test_an_adaptive_scheme_keeps_its_threshold() -> None:
    made = conditional(Adaptive(stratified, 0.25))
    assert made == Adaptive(conditional_stratified, 0.25)
    source = RandomStreams(0).generator(0, "resample")
    assert not made(as_log_weights([0.0, 0.1, 0.2]), generator=source).resampled


def test_schemes_without_a_conditional_version_are_named() -> None:
    with pytest.raises(InputError, match=r"Got 'ssp'; accepted: multinomial, residual, strat"):
        conditional(ssp)
