import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import as_log_weights, log_evidence, normalize, scaled
from llmsmc.errors import DegenerateWeightsError, InputError, NumericalError
from llmsmc.inference.resampling.adaptive import Adaptive
from llmsmc.inference.resampling.blockwise import Blockwise, conditional
from llmsmc.inference.resampling.killing import killing
from llmsmc.inference.resampling.multinomial import multinomial
from llmsmc.inference.resampling.optimal import optimal
from llmsmc.inference.resampling.residual import residual
from llmsmc.inference.resampling.scheme import (
    Resampled,
    Resampler,
    Scheme,
    equally_weighted,
    inverse_cdf,
    inverse_cdf_of_strata,
)
from llmsmc.inference.resampling.ssp import ssp
from llmsmc.inference.resampling.stratified import stratified
from llmsmc.inference.resampling.systematic import systematic, systematic_rows
from llmsmc.registry import RESAMPLERS
from tests.statistics import MAX_Z_OF_MANY, chi_square_p_value, z_scores

SCHEMES = [multinomial, residual, stratified, systematic, ssp]
ALMOST_ONE = math.nextafter(1.0, 0.0)

each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
log_weight = st.one_of(st.floats(-30, 30), st.just(-math.inf), st.just(0.0), st.floats(-1e4, 1e4))
live_weights = (
    st.lists(log_weight, min_size=1, max_size=12)
    .map(as_log_weights)
    .filter(lambda log_weights: bool((log_weights > -math.inf).any()))
)
counts = st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any)
uniform_point = st.one_of(
    st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.5, ALMOST_ONE])
)


def generator(seed: int = 0) -> Generator:
    return RandomStreams(seed).generator(0, "resample")


def offspring(ancestors: Tensor, size: int) -> Tensor:
    return ancestors.bincount(minlength=size)


# Exact properties


@each_scheme
@given(log_weights=live_weights, size=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_the_contract(scheme: Resampler, log_weights: Tensor, size: int, seed: int) -> None:
    before = log_weights.clone()
    ancestors, carried, resampled = scheme(
        log_weights, generator=generator(seed), num_offspring=size
    )
    assert resampled and ancestors.shape == carried.shape == (size,)
    assert ancestors.dtype == torch.int64 and carried.dtype == torch.float64
    assert bool((log_weights[ancestors] > -math.inf).all())
    assert len(set(carried.tolist())) == 1
    assert log_evidence(carried) == pytest.approx(log_evidence(log_weights), abs=1e-9)
    assert torch.equal(log_weights, before)


@each_scheme
def test_as_many_offspring_as_particles_unless_told(scheme: Resampler) -> None:
    assert len(scheme(as_log_weights([0.0, -1.0, -2.0]), generator=generator()).ancestors) == 3


@pytest.mark.parametrize(("scheme", "most"), [(systematic, 1), (ssp, 1), (residual, math.inf)])
@given(log_weights=live_weights, size=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_expected_offspring_are_rounded(
    scheme: Resampler, most: float, log_weights: Tensor, size: int, seed: int
) -> None:
    ancestors = scheme(log_weights, generator=generator(seed), num_offspring=size).ancestors
    excess = offspring(ancestors, len(log_weights)) - size * normalize(log_weights)
    assert bool((excess > -1 - 1e-9).all()) and bool((excess < most + 1e-9).all())


@each_scheme
@given(size=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_equal_weights_have_one_offspring_each(scheme: Resampler, size: int, seed: int) -> None:
    ancestors = scheme(as_log_weights([-3.0] * size), generator=generator(seed)).ancestors
    if scheme is not multinomial:
        assert ancestors.tolist() == list(range(size))


@given(weights=counts, points=st.lists(uniform_point, min_size=1, max_size=9))
def test_inverse_cdf_is_the_slow_one(weights: list[int], points: list[float]) -> None:
    def slow(u: float) -> int:
        total = 0
        for j, weight in enumerate(weights):
            total += weight
            if total > Fraction(u) * sum(weights):
                return j
        raise AssertionError

    # The product u * total is rounded: where that decides, either neighbour is right.
    indices = inverse_cdf(
        torch.tensor(weights).double(), torch.tensor(points, dtype=torch.float64)
    ).tolist()
    for u, index in zip(points, indices, strict=True):
        near = {slow(u), slow(max(u - 1e-12, 0.0)), slow(min(u + 1e-12, ALMOST_ONE))}
        assert index in near and weights[index] > 0


@given(weights=counts, offsets=st.lists(uniform_point, min_size=1, max_size=9))
def test_inverse_cdf_of_strata_is_the_slow_one(weights: list[int], offsets: list[float]) -> None:
    size, expected = len(offsets), []
    for i, u in enumerate(offsets):
        cumulative = 0
        for j, weight in enumerate(weights):
            cumulative += weight
            if Fraction(cumulative * size, sum(weights)) > i + Fraction(u):
                expected.append(j)
                break
    ancestors = inverse_cdf_of_strata(
        torch.tensor(weights).double(), torch.tensor(offsets, dtype=torch.float64)
    )
    total = sum(weights)
    if total & (total - 1) == 0:  # the fractions are exact in binary
        assert ancestors.tolist() == expected
    assert len(ancestors) == size
    assert all(weights[j] > 0 for j in ancestors.tolist())


def systematic_at(u: float, weights: Tensor, size: int) -> Tensor:
    """Both versions of systematic resampling at a given offset."""

    def given(shape: int | tuple[int, ...], generator: object) -> Tensor:
        return torch.full((shape,) if isinstance(shape, int) else shape, u, dtype=torch.float64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmsmc.inference.resampling.systematic.uniforms", given)
        log_weights = weights.log()
        alone = systematic(log_weights, generator=generator(), num_offspring=size).ancestors
        rows = systematic_rows(scaled(log_weights).expand(2, -1), size, generator())
    assert torch.equal(rows, torch.stack([alone, alone]))
    return alone


@given(weights=counts, u=uniform_point, size=st.integers(1, 40))
def test_systematic_is_the_slow_one(weights: list[int], u: float, size: int) -> None:
    cumulative = torch.tensor(weights).cumsum(0).tolist()
    last = max(j for j, weight in enumerate(weights) if weight > 0)

    def slow(point: float) -> int:
        above = (j for j, c in enumerate(cumulative) if c * size / cumulative[-1] > point)
        return min(next(above, last), last)

    # The offset and the weights are rounded: where that decides, either neighbour is right.
    for i, found in enumerate(systematic_at(u, torch.tensor(weights).double(), size).tolist()):
        assert slow(max(i + u - 1e-9, 0.0)) <= found <= slow(i + u + 1e-9)
        assert weights[found] > 0


@pytest.mark.parametrize("u", [0.0, 0.5, ALMOST_ONE])
@pytest.mark.parametrize("size", [2, 3, 7, 1000, 1_000_000])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("empty", [0, -1, 1, None], ids=["first", "last", "middle", "none"])
def test_extreme_points_never_hit_a_zero_weight(
    u: float, size: int, precision: torch.dtype, empty: int | None
) -> None:
    log_weights = torch.randn(size, generator=generator(), dtype=precision)
    if empty is not None:
        log_weights[empty] = -math.inf
    weights = as_log_weights(log_weights).exp()
    points = torch.full((size,), u, dtype=torch.float64)
    found = inverse_cdf(weights, points[:3]), inverse_cdf_of_strata(weights, points)
    for ancestors in (*found, systematic_at(u, weights, size)):
        assert bool((weights[ancestors] > 0).all())
        assert bool((ancestors.diff() >= 0).all())


@each_scheme
def test_a_million_particles(scheme: Resampler) -> None:
    size = 1_000_000
    log_weights = torch.randn(size, generator=generator(), dtype=torch.float64)
    ancestors, carried, _ = scheme(log_weights, generator=generator(1))
    assert len(ancestors) == size
    assert log_evidence(carried) == pytest.approx(log_evidence(log_weights), abs=1e-9)


def test_an_offset_close_to_one_skips_nobody() -> None:
    # i + u rounds to i + 1 here; a particle that expects exactly one offspring must still have it.
    for size in (2, 3, 49, 1000):
        offsets = torch.full((size,), ALMOST_ONE, dtype=torch.float64)
        ancestors = inverse_cdf_of_strata(torch.ones(size, dtype=torch.float64), offsets)
        assert ancestors.tolist() == list(range(size))
        alone = systematic_at(ALMOST_ONE, torch.ones(size, dtype=torch.float64), size)
        assert alone.tolist() == list(range(size))


@each_scheme
def test_dead_populations_and_nan_are_errors(scheme: Resampler) -> None:
    with pytest.raises(DegenerateWeightsError):
        scheme(torch.full((3,), -math.inf).double(), generator=generator())
    with pytest.raises(NumericalError):
        scheme(torch.tensor([0.0, math.nan]).double(), generator=generator())


@each_scheme
def test_the_same_generator_gives_the_same_ancestors(scheme: Resampler) -> None:
    log_weights = torch.randn(50, generator=generator(), dtype=torch.float64)
    draws = [scheme(log_weights, generator=generator(seed)).ancestors for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


# Statistical properties: means and variances of the numbers of offspring

LOG_WEIGHTS = as_log_weights([math.log(w) if w else -math.inf for w in (0, 5, 1, 0, 0.3, 2.2, 0)])
REPEATS = 1500


def repeated(scheme: Resampler, size: int) -> Tensor:
    """The numbers of offspring of repeated resamplings, `[R, N]`."""
    source = generator(7)
    return torch.stack(
        [
            offspring(scheme(LOG_WEIGHTS, generator=source, num_offspring=size)[0], 7).double()
            for _ in range(REPEATS)
        ]
    )


@each_scheme
@pytest.mark.parametrize("size", [7, 10])
def test_offspring_are_as_many_as_the_weights_say(scheme: Resampler, size: int) -> None:
    numbers = repeated(scheme, size)
    expected = size * normalize(LOG_WEIGHTS)
    assert float(z_scores(numbers, expected).abs().max()) < MAX_Z_OF_MANY
    # No scheme varies more than the multinomial one; a variance has a relative error of about
    # sqrt(kurtosis / R), and no kurtosis here is above 10.
    bound = expected * (1 - expected / size)
    noise = 1 + MAX_Z_OF_MANY * math.sqrt(10 / REPEATS)
    assert bool((numbers.var(0) <= bound * noise + 1e-12).all())


def test_multinomial_offspring_have_the_multinomial_law() -> None:
    numbers = repeated(multinomial, 10).sum(0)
    expected = REPEATS * 10 * normalize(LOG_WEIGHTS)
    alive = expected > 0
    assert float(numbers[~alive].sum()) == 0
    assert chi_square_p_value(numbers[alive], expected[alive], int(alive.sum()) - 1) > 2e-7


def test_multinomial_slots_are_exchangeable() -> None:
    source = generator(8)
    draws = torch.stack(
        [multinomial(LOG_WEIGHTS, generator=source).ancestors for _ in range(REPEATS)]
    )
    weights = normalize(LOG_WEIGHTS)
    for slot in (0, -1):
        hits = torch.nn.functional.one_hot(draws[:, slot], 7).double()
        assert float(z_scores(hits, weights).abs().max()) < MAX_Z_OF_MANY


EVERY = [*RESAMPLERS.values(), optimal]  # which has no name, since it needs fewer offspring


def z_of_contract(scheme: Resampler, size: int) -> float:
    """How far the mass that leaves in the children of each particle is from its weight."""
    source, weights = generator(5), LOG_WEIGHTS.exp()
    left = []
    for _ in range(REPEATS):
        ancestors, carried, _ = scheme(LOG_WEIGHTS, generator=source, num_offspring=size)
        left.append(torch.zeros(7, dtype=torch.float64).index_add(0, ancestors, carried.exp()))
    return float(z_scores(torch.stack(left), weights).abs().max())


@pytest.mark.parametrize("scheme", EVERY, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("size", [3, 7])
def test_every_registered_scheme_keeps_the_mass_in_expectation(scheme: Scheme, size: int) -> None:
    if scheme is killing and size < 7:
        with pytest.raises(InputError, match="accepted: None or 7"):
            scheme(LOG_WEIGHTS, generator=generator(), num_offspring=size)
    else:
        assert z_of_contract(scheme, size) < MAX_Z_OF_MANY


@pytest.mark.parametrize("scheme", EVERY, ids=lambda scheme: scheme.name)
def test_the_forms_of_every_registered_scheme_agree(scheme: Scheme) -> None:
    """One population alone is bit for bit the only row; and rows do not depend on others."""
    if scheme.batched is not None:
        alone = scheme(LOG_WEIGHTS, generator=generator(3))
        row = scheme.batched(scaled(LOG_WEIGHTS)[None], 7, generator(3))
        assert torch.equal(alone.ancestors, row[0])
        assert len(set(alone.log_weights.tolist())) == 1


def test_a_scheme_of_ones_own_keeps_the_contract_or_not() -> None:
    def by_threes(weights: Tensor, size: int, generator: Generator) -> Tensor:
        cubed = weights**3
        return cubed.multinomial(size, replacement=True, generator=generator)

    def by_one(weights: Tensor, size: int, generator: Generator) -> Tensor:
        return weights.multinomial(size, replacement=True, generator=generator)

    assert z_of_contract(Scheme("own", by_one), 7) < MAX_Z_OF_MANY
    assert z_of_contract(Scheme("wrong", by_threes), 7) > 2 * MAX_Z_OF_MANY


def test_a_scheme_needs_a_form() -> None:
    with pytest.raises(InputError, match="Got neither form for 'none'; accepted: batched= or sing"):
        Scheme("none")


def test_a_scheme_inside_blocks_and_adaptive_is_asked_for_its_forms() -> None:
    asked = []

    def batched(weights: Tensor, size: int, generator: Generator) -> Tensor:
        asked.append(tuple(weights.shape))
        return torch.zeros((len(weights), size), dtype=torch.int64)

    def kept(weights: Tensor, parents: Tensor, generator: Generator) -> Tensor:
        return parents[:, None].expand(weights.shape)

    scheme = Scheme("first", batched, kept)
    blocks = Blockwise(Adaptive(scheme, 1.0), 2)
    ancestors, _, _ = blocks(as_log_weights([0.0, -1.0, 0.0, -2.0]), generator=generator())
    assert (asked, ancestors.tolist()) == ([(2, 2)], [0, 0, 2, 2])
    assert conditional(Adaptive(scheme)) is kept
    with pytest.raises(InputError, match=r"Got 'ssp'; accepted: multinomial, .*killing, or a Sche"):
        conditional(ssp)


def biased(
    log_weights: Tensor, *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """A wrong systematic scheme: its offset is always in the middle of the stratum."""
    offsets = torch.full((num_offspring or len(log_weights),), 0.5, dtype=torch.float64)
    return equally_weighted(inverse_cdf_of_strata(log_weights.exp(), offsets), log_weights)


def test_the_same_comparison_rejects_a_biased_scheme() -> None:
    expected = 10 * normalize(LOG_WEIGHTS)
    assert float(z_scores(repeated(biased, 10), expected).abs().max()) > MAX_Z_OF_MANY
