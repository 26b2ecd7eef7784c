import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmsmc import InputError, check_model
from llmsmc.core.randomness import RandomStreams
from llmsmc.models import TabularLanguageModel
from tests.statistics import MAX_Z_OF_MANY, z_scores
from tests.toys import (
    TABLE_INSTANCE_EVIDENCE,
    early_stopper,
    independent_steps,
    language_with_eos,
    table_without_end,
)


def test_two_by_two_by_hand() -> None:
    model = TabularLanguageModel(
        [[[0.25, 0.75]], [[0.5, 0.5], [0.1, 0.9]]], [[0.2, 1.0], [1.0, 0.0, 0.5, 2.0]]
    )
    by_hand = {
        (0, 0): 0.25 * 0.5 * 0.2 * 1.0,
        (0, 1): 0.0,
        (1, 0): 0.75 * 0.1 * 1.0 * 0.5,
        (1, 1): 0.75 * 0.9 * 1.0 * 2.0,
    }
    evidence = sum(by_hand.values())
    assert math.exp(model.log_evidence()) == pytest.approx(evidence)
    expected = {path: value / evidence for path, value in by_hand.items()}
    assert model.posterior() == pytest.approx(expected)


def test_an_end_by_hand() -> None:
    # EOS is 0: "0" has 0.5 * 0.3, "10" has 0.5 * 0.8 * 0.2 * 0.6, "11" is cut off.
    model = TabularLanguageModel(
        [[[0.5, 0.5]], [[1.0, 0.0], [0.2, 0.8]]], [[0.3, 0.8], [1.0, 1.0, 0.6, 0.4]], eos=0
    )
    ended, cut_off = 0.5 * 0.3 + 0.5 * 0.8 * 0.2 * 0.6, 0.5 * 0.8 * 0.8 * 0.4
    assert math.exp(model.log_evidence()) == pytest.approx(ended + cut_off)
    assert math.exp(model.log_evidence(truncated="reject")) == pytest.approx(ended)
    assert set(model.posterior()) == {(0,), (1, 0), (1, 1)}
    assert model.posterior(truncated="reject")[(1, 1)] == 0.0
    assert model.truncated(model.paths()).tolist().count(True) == 1


def test_the_evidence_of_the_table_without_end() -> None:
    model = table_without_end()
    assert math.exp(model.log_evidence()) == pytest.approx(TABLE_INSTANCE_EVIDENCE, abs=5e-8)
    assert len(model.paths()) == 81


def test_published_values_of_the_toys() -> None:
    assert math.exp(independent_steps().log_evidence()) == pytest.approx(0.46**3)
    for length, exact in {1: 0.5455, 2: 0.7059, 4: 0.9057, 8: 0.9935}.items():
        assert early_stopper(length).posterior()[(0,)] == pytest.approx(exact, abs=5e-5)
    law = language_with_eos().posterior()
    assert math.exp(language_with_eos().log_evidence()) == pytest.approx(6.904838, abs=5e-7)
    assert law[(1, 1, 1, 2)] == pytest.approx(0.4849, abs=5e-5)
    assert law[(1, 1, 2)] == pytest.approx(0.1968, abs=5e-5)


@given(st.integers(0, 10_000))
def test_enumeration_is_the_forward_recursion(seed: int) -> None:
    # Potentials of the last token alone make the sum over paths a product of matrices.
    generator = torch.Generator().manual_seed(seed)
    law = torch.rand(3, 3, generator=generator, dtype=torch.float64) + 0.01
    law = law / law.sum(1, keepdim=True)
    factor = torch.rand(3, generator=generator, dtype=torch.float64)
    model = TabularLanguageModel.from_functions(
        3,
        4,
        next_token=lambda prefix: law[prefix[-1] if prefix else 0].tolist(),
        potential=lambda prefix: float(factor[prefix[-1]]),
    )
    forward = law[0] * factor
    for _ in range(3):
        forward = forward @ law * factor
    assert math.exp(model.log_evidence()) == pytest.approx(float(forward.sum()))


@pytest.mark.parametrize("model", [table_without_end(), language_with_eos()])
def test_draws_have_the_law_that_is_scored(model: TabularLanguageModel) -> None:
    streams, size = RandomStreams(0), 20_000
    state = model.sample_initial(size, generator=streams.generator(0, "test"))
    for t in range(1, model.max_steps):
        finished = model.finished(state)[:, None]
        drawn = model.sample_transition(t, state, generator=streams.generator(t, "test"))
        state = torch.where(finished, state, drawn)
    paths = model.paths()
    exact = model.log_prior(paths).exp()
    assert float(exact.sum()) == pytest.approx(1.0)
    hits = (state[:, None] == paths).all(2).double()
    assert float(z_scores(hits, exact)[exact > 0.002].abs().max()) < MAX_Z_OF_MANY


@pytest.mark.parametrize("toy", [table_without_end, language_with_eos, independent_steps])
def test_the_laws_of_a_model(toy: Callable[[], TabularLanguageModel]) -> None:
    assert "the likelihood of a path is the product of those of its steps" in check_model(toy())


@pytest.mark.parametrize(
    ("transitions", "potentials", "eos", "message"),
    [
        ([], [], None, "at least one"),
        ([[[0.5, 0.5]]], [], None, "as many of both"),
        ([[[0.5, 0.5]]], [[1.0]], None, "cover all prefixes"),
        ([[[0.5, 0.6]]], [[1.0, 1.0]], None, "no probabilities"),
        ([[[1.5, -0.5]]], [[1.0, 1.0]], None, "no probabilities"),
        ([[[0.5, 0.5]]], [[1.0, -1.0]], None, "finite numbers >= 0"),
        ([[[0.5, 0.5]]], [[1.0, math.inf]], None, "finite numbers >= 0"),
        ([[[0.5, 0.5]]], [[1.0, 1.0]], 2, "eos is a token"),
    ],
)
def test_tables_are_checked(
    transitions: list[list[list[float]]], potentials: list[list[float]], eos: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TabularLanguageModel(transitions, potentials, eos=eos)
