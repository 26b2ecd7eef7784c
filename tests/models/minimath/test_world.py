"""Problems are well posed, levels have the promised lengths, misconceptions their triggers."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsmc.models.minimath.families import FAMILIES
from llmsmc.models.minimath.problem import LEVELS, draw_problem
from llmsmc.models.minimath.world.arithmetic import Exact, Misconceived, Rates

STEPS = {1: (2, 3), 2: (4, 5), 3: (7, 8), 4: (11, 12), 5: (15, 17)}
"""Steps of a reference solution, the answer line among them, one more or less by the family."""


def test_there_are_at_least_six_families_and_five_levels() -> None:
    assert len(FAMILIES) >= 6
    assert sorted(LEVELS) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("level", sorted(LEVELS))
def test_solutions_are_as_long_as_their_level(family: str, level: int) -> None:
    random = Random(f"{family}/{level}")
    shortest, longest = STEPS[level]
    for _ in range(40):
        problem = draw_problem(random, level, family=family)
        solution = problem.solution()
        assert shortest - 1 <= len(solution) <= longest + 1
        assert solution[-1] == f"The answer is \\boxed{{{problem.answer}}}."


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_numbers_stay_in_the_world_and_divisions_come_out(family: str) -> None:
    random = Random(family)

    class Watching(Exact):
        def calculate(self, sign: str, left: int, right: int) -> int:
            assert sign != "/" or left % right == 0
            return super().calculate(sign, left, right)

    for number in range(200):
        problem = draw_problem(random, 1 + number % 5, family=family)
        solution = " ".join(problem.solution(Watching()))
        assert all(0 <= int(value) <= 200 for value in re.findall(r"\d+", solution))


def test_the_same_seed_draws_the_same_problem() -> None:
    for family in FAMILIES:
        one, other = (draw_problem(Random(9), 4, family=family) for _ in range(2))
        assert one == other
        assert one.question == other.question


@given(st.integers(0, 199), st.integers(0, 99), st.integers(0, 2**32))
def test_without_a_trigger_nothing_goes_wrong_but_slips(left: int, right: int, seed: int) -> None:
    sure, no = (1.0, 1.0), (0.0, 0.0)
    always = Rates(carry=sure, borrow=sure, product=sure, quotient=sure, slip=0.0)
    wrong = Misconceived(Random(seed), always)
    forgets = 10 if left % 10 + right % 10 >= 10 else 0
    assert wrong.calculate("+", left, right) == left + right - forgets
    borrows = 10 if left % 10 < right % 10 else 0
    assert wrong.calculate("-", left, right) == left - right + borrows
    never = Rates(carry=no, borrow=no, product=no, quotient=no, slip=0.0)
    right_one = Misconceived(Random(seed), never)
    assert right_one.calculate("*", left, right) == left * right
    assert right_one.calculate("/", left, right + 1) == left // (right + 1)


def test_misconceptions_strike_as_often_as_they_say() -> None:
    wrong = Misconceived(Random(1), Rates(slip=0.0))
    draws = 20_000
    strong = sum(wrong.calculate("+", 17, 28) == 35 for _ in range(draws)) / draws
    weak = sum(wrong.calculate("+", 15, 26) == 31 for _ in range(draws)) / draws
    for share, rate in ((strong, 0.60), (weak, 0.15)):
        standard_error = (rate * (1 - rate) / draws) ** 0.5
        assert abs(share - rate) < 4.3 * standard_error


def test_the_world_leaves_room_for_inference() -> None:
    """Written under misconceptions, the share of right answers falls with the level."""
    random = Random(2)
    shares = []
    for level in sorted(LEVELS):
        problems = [draw_problem(random, level) for _ in range(400)]
        hits = [p.solution(Misconceived(random))[-1] == p.solution()[-1] for p in problems]
        shares.append(sum(hits) / len(hits))
    assert shares == sorted(shares, reverse=True)
    assert 0.2 < sum(shares) / 5 < 0.5
    assert shares[-1] < 0.2
