"""Solutions that go wrong late."""

from random import Random

from llmsmc.models.minimath.checker import num_correct_steps
from llmsmc.models.minimath.problem import draw_problem
from llmsmc.models.minimath.training.reward import Late
from llmsmc.models.minimath.world.arithmetic import Misconceived, Rates

HOPELESS = Rates(
    carry=(1.0, 1.0), borrow=(1.0, 1.0), product=(1.0, 1.0), quotient=(1.0, 1.0), slip=1.0
)


def test_as_many_results_are_right_as_was_said() -> None:
    calculator = Late(Misconceived(Random(0), HOPELESS), 3)
    right = [
        calculator.calculate("+", 17, 26) == 43,
        calculator.calculate("-", 43, 26) == 17,
        calculator.calculate("*", 7, 8) == 56,
        calculator.calculate("/", 56, 7) == 8,
        calculator.calculate("+", 17, 26) == 43,
    ]
    assert right[:3] == [True, True, True]
    assert not all(right[3:])


def test_errors_stand_behind_right_steps() -> None:
    random = Random(1)
    for _ in range(40):
        problem = draw_problem(random, 5, family="equations")
        late = Late(Misconceived(random, HOPELESS), 12)
        # An equation takes at most three results for its two steps.
        assert num_correct_steps(problem, problem.solution(late)) >= 8
