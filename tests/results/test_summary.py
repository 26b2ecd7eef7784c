"""What is read from a posterior over texts."""

import re
from dataclasses import replace

import pytest

from llmsmc.results import summary
from tests.solutions import answering, posterior


def test_answers_have_probabilities_and_errors() -> None:
    found = summary.answer_estimates(posterior(answering("7", "8", "7", None), [1, 2, 2, 1]))
    assert [each.answer for each in found] == ["7", "8", "no answer"]
    assert [each.probability for each in found] == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert all(each.standard_error is not None and each.standard_error > 0 for each in found)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 1.0, 0.0]])
def test_a_single_particle_knows_no_error(weights: list[float]) -> None:
    found = summary.answer_estimates(posterior(answering("7", "8", "9")[: len(weights)], weights))
    assert [each.standard_error for each in found] == [None]


def test_no_answer_leads_nothing() -> None:
    half = posterior(answering(None, None, "8", "7"), [3, 3, 1, 2])
    assert summary.leading_answer(summary.answer_estimates(half)) == "7"
    none = posterior(answering(None, None), [1, 2])
    assert summary.leading_answer(summary.answer_estimates(none)) is None
    assert summary.best_solution(none).answer is None


def test_the_best_solution_gives_the_leading_answer() -> None:
    solutions = answering("8", "7", "7", "7")
    assert summary.best_solution(posterior(solutions, [4, 1, 3, 2])).answer == "7"
    assert posterior(solutions, [4, 1, 3, 2]).best().answer == "8"


def test_probability_of_a_reference_in_other_words() -> None:
    found = summary.answer_estimates(posterior(answering("0.5", "2", None), [1, 1, 2]))
    assert summary.probability_of("1/2", found) == pytest.approx(0.25)
    assert summary.probability_of("no answer", found) == 0.0


def test_the_dead_have_no_answers() -> None:
    dead = posterior(answering("7", "8"), [0, 0])
    assert summary.is_dead(dead)
    assert summary.answer_estimates(dead) == []
    assert summary.warnings(dead) == []
    assert summary.log_evidence_error(dead) is None


def test_an_ordinary_run_has_no_warnings() -> None:
    ancestors = [[0, 1, 2, 3], [0, 0, 2, 3]]
    assert summary.warnings(posterior(answering(*"7788"), [1, 2, 3, 4], ancestors=ancestors)) == []


@pytest.mark.parametrize(
    ("weights", "num_cut_off", "count", "share", "last"),
    [
        ([1, 2, 1], 1, "1 of 3 particles was cut off before it had", "25.0%", "let it end."),
        ([1, 2, 1], 2, "2 of 3 particles were cut off before they had", "75.0%", "let them end."),
        ([1], 1, "1 of 1 particle was cut off before it had", "100.0%", "let it end."),
    ],
)
def test_truncation_is_said(
    weights: list[float], num_cut_off: int, count: str, share: str, last: str
) -> None:
    solutions = answering("7", "8", None)[-len(weights) :]
    (warning,) = summary.warnings(posterior(solutions, weights, num_cut_off=num_cut_off))
    assert warning.startswith(f"{count} finished, with {share} of the probability")
    assert warning.endswith(last)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "no usable answer once: that particle has weight zero, and .* what it would have"),
        (2, "no usable answer 2 times: those particles have weight zero, .* what they would have"),
    ],
)
def test_failures_of_servers_are_counted(count: int, said: str) -> None:
    result = posterior(answering("7", "8", "9"), [1, 2, 1])
    cost = replace(result.cost, failed_particles=count, failures={"gone": count})
    (warning,) = summary.warnings(replace(result, cost=cost))
    assert re.search(said, warning)


def test_a_posterior_counts_its_particles() -> None:
    assert ", 1 particle, 1 step," in repr(posterior(answering("7"), [1]))
    assert "2 particles, 1 step," in repr(posterior(answering("7", "8"), [1, 1]))


def test_collapse_at_several_steps() -> None:
    result = posterior(answering(*"789"), [1.0, 1e-9, 1e-9])
    (record,) = result.history
    later = replace(record, step=1)
    assert "at steps 1, 2:" in summary.warnings(replace(result, history=(record, later)))[0]


def test_collapse_is_said_of_what_approximates_a_law() -> None:
    collapsed = [1.0, 1e-9, 1e-9]
    (warning,) = summary.warnings(posterior(answering(*"789"), collapsed))
    assert "effective sample size fell to about 1 at step 1:" in warning
    assert summary.warnings(posterior(answering(*"789"), collapsed, guarantee="heuristic")) == []


def test_a_common_ancestor_is_said() -> None:
    ancestors = [[0, 1, 2], [1, 1, 1], [0, 1, 2]]
    (warning,) = summary.warnings(posterior(answering(*"789"), [1, 2, 2], ancestors=ancestors))
    assert "descend from a single one of step 1:" in warning


def test_the_parts_of_the_time_add_up() -> None:
    cost = summary.cost_record(posterior(answering("7"), [1]))
    parts = cost["policy_seconds"] + cost["reward_seconds"] + cost["other_seconds"]
    assert parts == pytest.approx(cost["seconds"])
    assert cost["tokens_per_second"] == 50


def test_the_error_of_the_evidence_is_that_of_filters() -> None:
    ancestors = [[0, 1, 2, 3], [0, 0, 2, 3]]
    found = posterior(answering(*"7788"), [1, 1, 1, 7], ancestors=ancestors)
    # Families of 0.2, 0.1 and 0.7, and one resampling.
    variance = 1 - (4 / 3) ** 2 * (1 - 0.54)
    assert summary.log_evidence_error(found) == pytest.approx(variance**0.5)
    below_zero = posterior(answering(*"7788"), [1, 2, 3, 4], ancestors=ancestors)
    assert summary.log_evidence_error(below_zero) is None
    assert summary.log_evidence_error(replace(found, guarantee="consistent")) is None


def test_percentages() -> None:
    assert [summary.percent(p) for p in (0.0, 1e-9, 0.0005, 0.5, 1.0)] == [
        "0.0%",
        "<0.1%",
        "0.1%",
        "50.0%",
        "100.0%",
    ]


def test_the_acceptance_rate_is_that_of_the_steps_that_move() -> None:
    found = posterior(answering("7", "8"), [1, 1], ancestors=[[0, 1], [0, 1]])
    first, second = found.history
    assert summary.acceptance_rate(found) is None
    moved = replace(found, history=(first, replace(second, acceptance_rate=0.25)))
    assert summary.acceptance_rate(moved) == 0.25
