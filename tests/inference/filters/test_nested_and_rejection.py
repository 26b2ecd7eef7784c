"""Filters that look at several next steps: unbiased, whatever is drawn and thrown away."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.wrong_variants import WeighedByTheFirst, WeighedByTheKept
from llmsmc import InputError
from llmsmc.errors import DegenerateWeightsError
from llmsmc.inference import (
    Adaptive,
    BootstrapFilter,
    NestedFilter,
    RejectionFilter,
    multinomial,
    systematic,
)
from llmsmc.inference.filters.nested_filter import choose
from llmsmc.inference.filters.rejection_filter import acceptance
from llmsmc.models import LanguageModel, Reasoning, TabularLanguageModel
from tests.statistics import MAX_Z, z_score
from tests.toys import early_stopper, independent_steps, language_with_eos, table_without_end


def evidence(algorithm: Any, model: Any, seed: int) -> float:
    try:
        return math.exp(algorithm.run(model, seed=seed).log_evidence)
    except DegenerateWeightsError:
        return 0.0


@pytest.mark.parametrize("scheme", [multinomial, systematic])
@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("toy", [table_without_end, language_with_eos])
def test_the_nested_filter_is_unbiased(toy: Any, candidates: int, scheme: Any) -> None:
    model, algorithm = toy(), NestedFilter(3, candidates, Adaptive(scheme, 1.0), record=False)
    found = [evidence(algorithm, model, seed) for seed in range(300)]
    assert abs(z_score(found, math.exp(model.log_evidence()))) < MAX_Z


@pytest.mark.parametrize("max_draws", [1, 2, 5, 40])
def test_the_rejection_filter_is_unbiased(max_draws: int) -> None:
    model = table_without_end()
    found = [evidence(RejectionFilter(6, max_draws), model, seed) for seed in range(200)]
    assert abs(z_score(found, math.exp(model.log_evidence()))) < MAX_Z


def test_the_bound_is_divided_out() -> None:
    model, exact = language_with_eos(), math.exp(language_with_eos().log_evidence())
    found = [evidence(RejectionFilter(6, 30, 15.0), model, seed) for seed in range(200)]
    assert abs(z_score(found, exact)) < MAX_Z


@pytest.mark.quick
def test_weights_of_what_is_kept_are_rejected() -> None:
    model, found = table_without_end(), dict[Any, float]()
    exact = math.exp(model.log_evidence())
    pairs = (
        (600, NestedFilter(4, 4), WeighedByTheKept(4, 4)),
        (200, RejectionFilter(6), WeighedByTheFirst(6)),
    )
    for num_runs, *pair in pairs:
        for algorithm in pair:
            values = [evidence(algorithm, model, seed) for seed in range(num_runs)]
            found[type(algorithm)] = abs(z_score(values, exact))
        right, wrong = (found[type(algorithm)] for algorithm in pair)
        assert right < MAX_Z < 6 < wrong


@given(st.integers(1, 5), st.integers(0, 6), st.floats(0.01, 1.0))
def test_estimates_of_acceptance(wanted: int, max_draws: int, chance: float) -> None:
    """Over all sequences of draws, the mean of the estimate is the probability of acceptance."""
    max_draws = max(max_draws, 1)
    total = 0.0
    for pattern in range(2**max_draws):
        outcomes = [pattern >> k & 1 for k in range(max_draws)]
        probability = math.prod(chance if each else 1 - chance for each in outcomes)
        seconds = [k for k in range(max_draws) if outcomes[k] and sum(outcomes[: k + 1]) == 2]
        num_draws = seconds[0] + 1 if seconds else max_draws
        num_accepted = min(2, sum(outcomes))
        estimate = acceptance(torch.tensor([num_accepted]), torch.tensor([num_draws]))
        total += probability * float(estimate)
    assert total == pytest.approx(chance, abs=1e-12)


def test_one_candidate_is_the_bootstrap_filter() -> None:
    model = language_with_eos()
    for seed in range(20):
        one, other = (
            each.run(model, seed=seed) for each in (NestedFilter(5, 1), BootstrapFilter(5))
        )
        assert torch.equal(one.particles, other.particles)
        assert one.log_evidence == pytest.approx(other.log_evidence, abs=1e-12)


def test_many_candidates_take_the_variance_of_the_proposal_away() -> None:
    # Where steps do not depend on each other, the mean potential is all there is to know.
    model = independent_steps()

    def spread(candidates: int) -> float:
        runs = [NestedFilter(1, candidates).run(model, seed=s).log_evidence for s in range(60)]
        return float(torch.tensor(runs).std())

    assert spread(64) < 0.25 * spread(1)


def test_the_law_of_what_is_chosen() -> None:
    potentials = torch.tensor([[0.1, 0.0, 0.6, 0.3]]).log().double().expand(20_000, -1)
    chosen = choose(potentials, torch.Generator().manual_seed(0))
    shares = chosen.bincount(minlength=4) / len(chosen)
    assert shares[1] == 0
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.0, 0.6, 0.3]), rtol=0, atol=0.02)
    nothing = torch.full((3, 4), -math.inf).double()
    assert choose(nothing, torch.Generator().manual_seed(0)).tolist() == [0, 0, 0]


def test_all_living_particles_are_right_under_a_checker() -> None:
    """Half of the tokens are wrong at each step: the particles that live do not fall in number."""

    def language(length: int) -> TabularLanguageModel:
        return TabularLanguageModel.from_functions(
            2,
            length,
            next_token=lambda prefix: [0.5, 0.5],
            potential=lambda prefix: float(prefix[-1] == 0),
        )

    def spread(algorithm: Any, length: int) -> float:
        model = language(length)
        found = torch.tensor([evidence(algorithm, model, seed) for seed in range(60)])
        return float((found / math.exp(model.log_evidence())).std())

    posterior = RejectionFilter(8).run(language(10), seed=0)
    assert not bool(posterior.particles.any()) and posterior.history[-1].max_weight > 0
    # Its weights vary no more than those of the steps together; the bootstrap filter dies out.
    assert spread(RejectionFilter(8, 100), 10) < 0.5 * spread(BootstrapFilter(8), 10)


@pytest.mark.parametrize("algorithm", [NestedFilter(6, 3), RejectionFilter(6)])
def test_finished_particles_keep_their_weights(algorithm: Any) -> None:
    last, model = None, early_stopper(4)
    for posterior in algorithm.iterate(model, seed=3):
        finished = model.finished(posterior.particles)
        if last is not None:
            resampled = posterior.history[-1].resampled
            stayed = model.finished(last.particles) & finished
            if not resampled:
                assert torch.equal(posterior.log_weights[stayed], last.log_weights[stayed])
        last = posterior


@pytest.mark.parametrize("algorithm", [NestedFilter(2, 2), RejectionFilter(2, 3)])
def test_on_texts(algorithm: Any) -> None:
    policy = LanguageModel.from_pretrained("minimath-policy-small")

    def model() -> Reasoning:
        def judge(question: str, steps: Sequence[str]) -> list[float]:
            return [0.9 if len(step) % 2 else 0.6 for step in steps]

        question = "Tom has 3 pens. He buys 4 more. How many pens does he have?"
        return Reasoning(policy, judge, question, max_steps=4, max_tokens_per_step=30)

    one, other = (algorithm.run(model(), seed=1) for _ in range(2))
    assert one.log_evidence == other.log_evidence
    assert [each.text for each in one.particles] == [each.text for each in other.particles]
    # What was thrown away was generated all the same.
    kept = int(one.particles.num_tokens.sum())
    assert one.cost.generated_tokens > kept


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="candidates is a count"):
        NestedFilter(4, 0)
    with pytest.raises(InputError, match="max_draws is a count"):
        RejectionFilter(4, 0)
    with pytest.raises(InputError, match="bound is a positive number"):
        RejectionFilter(4, bound=0.0)
    with pytest.raises(InputError, match="a bound that no likelihood exceeds"):
        RejectionFilter(4).run(language_with_eos(), seed=0)
