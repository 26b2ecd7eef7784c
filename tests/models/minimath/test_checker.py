"""The checker judges each step of any text by what it states."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsmc.models.minimath.checker import NOTHING_STATED, check_steps, num_correct_steps
from llmsmc.models.minimath.families import FAMILIES
from llmsmc.models.minimath.families.chains import Chain, Definition
from llmsmc.models.minimath.families.equations import Equation, Equations
from llmsmc.models.minimath.families.number_theory import DivisorSum
from llmsmc.models.minimath.families.rates import Event, Stock
from llmsmc.models.minimath.families.sequences import Recurrence
from llmsmc.models.minimath.families.stories import Relation, Story
from llmsmc.models.minimath.problem import LEVELS, Problem, draw_problem
from llmsmc.models.minimath.world.arithmetic import Misconceived

CHAIN = Problem(
    "",
    "chains",
    1,
    Chain((Definition("a", 7, "+", 4, 12), Definition("b", "a", "-", 9)), worded=False),
)  # a = 55, b = 46
EQUATIONS = Problem(
    "",
    "equations",
    1,
    Equations((Equation("x", 3, "+", 5, None, 26), Equation("y", 2, "-", 4, "x", 2)), "Solve"),
)  # x = 7, y = 15
STORY = Problem(
    "",
    "stories",
    1,
    Story(
        ("Ann", "apples"),
        14,
        (
            Relation(("Ben", "apples"), "plus", 9, ("Ann", "apples")),
            Relation(("Ben", "pens"), "times", 2, ("Ben", "apples")),
        ),
    ),
)  # Ben: 23 apples, 46 pens
STOCK = Problem(
    "",
    "rates",
    1,
    Stock("shop", 80, (Event("January", "percent", 25), Event("February", "gain", 6, 4))),
)  # 20, 60; 24, 84
DIVISORS = Problem("", "number-theory", 1, DivisorSum(((84, 36), (42, 15)), abbreviated=True))
SEQUENCE = Problem("", "sequences", 1, Recurrence("halving", 13, 7, 0, 0, 4))  # 13, 20, 10, 5


RIGHT = [
    (CHAIN, "First multiply: 4 times 12 equals 48."),
    (CHAIN, "So a is 7 + 48 = 55."),
    (CHAIN, "$4 \\cdot 12 = 48$, hence $a = 7 + 48 = 55$."),
    (CHAIN, "a = 7 + (4 * 12) = 55 and b = a - 9 = 46"),
    (CHAIN, "Step 2: b = 55 - 9 = 46."),
    (CHAIN, "Therefore \\boxed{46}"),
    (CHAIN, "The answer is 46."),
    (EQUATIONS, "Subtract 5 from both sides: 3x = 21."),
    (EQUATIONS, "3 * x = 26 - 5 = 21, so x = \\frac{21}{3} = 7"),
    (EQUATIONS, "2y = 2 + 4x = 2 + 28 = 30."),
    (STORY, "Ben has nine more than Ann, that is 14 + 9 = 23 apples."),
    (STORY, "Ben has 23 apples."),
    (STORY, "Ben has 9 more apples than Ann, who has 14 apples."),
    (STORY, "23 * 2 = 46, so Ben has 46 pens."),
    (STORY, "apples of Ben: 23; 23 * 2 = 46; pens of Ben: 46."),
    (STORY, "Together Ann and Ben have 14 + 23 = 37 apples."),
    (STOCK, "January: a quarter of 80 is lost, 80 / 4 = 20."),
    (STOCK, "In January the shop is left with 80 - 20 = 60 boxes."),
    (STOCK, "25% of 80 is 20."),
    (DIVISORS, "A: 84 - 2 * 36 = 12, leaving 36 and 12."),
    (DIVISORS, "The gcd of 84 and 36 is 12."),
    (DIVISORS, "A + B = 12 + 3 = 15."),
    (SEQUENCE, "13 is odd, so term 2 is 13 + 7 = 20."),
    (SEQUENCE, "Term 3 is 10, since 20 is even."),
]  # fmt: skip

WRONG = [
    (CHAIN, "7 + 4 = 11, a = 11 * 12 = 132.", "a is 55, not 132"),
    (CHAIN, "4 times 12 equals 46.", "4 * 12 is 48, not 46"),
    (CHAIN, "b = 56.", "b is 46, not 56"),
    (CHAIN, "Therefore \\boxed{56}", "the answer is 46, not 56"),
    (CHAIN, "The answer is 56.", "the answer is 46, not 56"),
    (EQUATIONS, "3x = 26 + 5 = 31.", "3 x is 21, not 31"),
    (EQUATIONS, "x equals 8", "x is 7, not 8"),
    (STORY, "Ben has 14 - 9 = 5 apples.", "Ben apples: 23, not 5"),
    (STORY, "Ben has 13 apples.", "Ben apples: 23, not 13"),
    (STORY, "apples of Ben: 14; 14 * 2 = 28.", "Ben apples: 23, not 14"),
    (STORY, "So 14 + 9 = 13.", "14 + 9 is 23, not 13"),
    (STOCK, "In January 80 / 5 = 16 boxes are lost.", "January: 20 or 60, not 16"),
    (DIVISORS, "A: 84 - 2 * 36 = 22, leaving 36 and 22.", "84 - 2 * 36 is 12, not 22"),
    (DIVISORS, "A: leaving 36 and 10.", "36 and 10 have the divisor 2, not 12"),
    (SEQUENCE, "13 is even, 13 / 2 = 6.5.", "13 is odd"),
    (SEQUENCE, "Term 2 is 21.", "term 2: 20, not 21"),
    (SEQUENCE, "13 is above 20.", "13 is not above 20"),
]


@pytest.mark.parametrize(("problem", "step"), RIGHT)
def test_true_statements_in_other_words_are_right(problem: Problem, step: str) -> None:
    (verdict,) = check_steps(problem, [step])
    assert verdict.correct, verdict.reason
    assert verdict.reason != NOTHING_STATED


@pytest.mark.parametrize(("problem", "step", "reason"), WRONG)
def test_false_statements_are_wrong_for_the_reason_given(
    problem: Problem, step: str, reason: str
) -> None:
    (verdict,) = check_steps(problem, [step])
    assert not verdict.correct
    assert verdict.reason == reason


def test_a_step_that_states_nothing_is_right_and_says_so() -> None:
    (verdict,) = check_steps(CHAIN, ["Let us work this out slowly."])
    assert verdict.correct
    assert verdict.reason == NOTHING_STATED


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_reference_solutions_are_right_and_every_step_is_checked(family: str) -> None:
    random = Random(f"reference/{family}")
    for level in LEVELS:
        for _ in range(20):
            problem = draw_problem(random, level, family=family)
            for verdict in check_steps(problem, problem.solution()):
                assert verdict.correct, verdict.reason
                assert verdict.reason != NOTHING_STATED


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_first_step_that_goes_wrong_is_found(family: str) -> None:
    random = Random(f"misconceived/{family}")
    found = 0
    for number in range(300):
        problem = draw_problem(random, 1 + number % 5, family=family)
        exact, solution = problem.solution(), problem.solution(Misconceived(random))
        first = next(
            (k for k, pair in enumerate(zip(exact, solution, strict=False)) if pair[0] != pair[1]),
            None,
        )
        if first is None:
            assert num_correct_steps(problem, solution) == len(solution)
        else:
            assert num_correct_steps(problem, solution) == first
            found += 1
    assert found > 100


@given(text=st.text(max_size=200))
def test_any_text_gets_a_verdict(text: str) -> None:
    for problem in (CHAIN, EQUATIONS, STORY, STOCK, DIVISORS, SEQUENCE):
        assert check_steps(problem, [text])[0].reason


def test_text_is_never_evaluated() -> None:
    (verdict,) = check_steps(CHAIN, ["__import__('os').getcwd() = 9**9**9**9"])
    assert isinstance(verdict.correct, bool)
    assert not check_steps(CHAIN, ["1 = 1 " * 1000])[0].correct  # over-long
