"""The fixed sets are fixed, balanced and disjoint."""

from collections import Counter
from itertools import islice

import pytest

from llmsmc.models.minimath.datasets import (
    DEV,
    NUM_TRAIN,
    TEST,
    TRAIN,
    load,
    minimath_train,
    set_of,
)


@pytest.mark.quick
def test_sets_are_disjoint() -> None:
    questions = {name: {problem.question for problem in load(name)} for name in (TRAIN, DEV, TEST)}
    more = {problem.question for problem in islice(minimath_train(seed=7), 2000)}
    assert not (questions[TRAIN] | more) & (questions[DEV] | questions[TEST])
    assert not questions[DEV] & questions[TEST]
    for name, members in questions.items():
        assert {set_of(question) for question in members} == {name}


def test_minimath_500_has_a_hundred_distinct_problems_a_level() -> None:
    problems = load(TEST)
    assert Counter(problem.level for problem in problems) == dict.fromkeys(range(1, 6), 100)
    assert len({problem.question for problem in problems}) == 500
    assert len({problem.id for problem in problems}) == 500
    families = Counter((problem.level, problem.family) for problem in problems)
    assert set(families.values()) == {16, 17}
    assert Counter(problem.level for problem in problems[:50]) == dict.fromkeys(range(1, 6), 10)


def test_sets_do_not_change() -> None:
    """A changed world would make old results incomparable: then this test must change, too."""
    first = load(TEST)[0]
    assert first.question == FIRST_QUESTION
    assert next(minimath_train(0)).question == next(minimath_train(0)).question
    assert next(minimath_train(0)).question != next(minimath_train(1)).question


def test_the_training_set_by_name_has_questions_that_differ() -> None:
    found = load(TRAIN)
    assert len({problem.question for problem in found}) == len(found) == NUM_TRAIN
    assert found[:500] == tuple(islice(minimath_train(), 500))


FIRST_QUESTION = "Let a = 3 + 80. What is a?"
