r"""The correctness of the final answer as a reward: an oracle, for the ceiling of an experiment.

| the solution so far | score |
| --- | --- |
| gives the right answer | 1 |
| gives no answer | 1/2 |
| gives a wrong answer | `wrong` |

A score is of the solution so far, so that `aggregation="last"` counts it once. Whatever is reached
with this reward is an upper bound for rewards that do not know the answer, and no result.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from llmsmc.core.checks import require_fraction
from llmsmc.errors import InputError
from llmsmc.grading.grades import extract_answer, grade
from llmsmc.models.rewards.reward_function import RewardFunction

WRONG: Final = 1e-6
UNANSWERED: Final = 0.5


class AnswerReward(RewardFunction):
    """Whether the answer of a solution is that of the data set.

    Attributes:
        answers: the right answer of each question.
        wrong: the score of a solution with another answer.
    """

    def __init__(self, answers: Mapping[str, str], *, wrong: float | int = WRONG) -> None:
        """Take the right answers.

        Raises:
            InputError: the score of a wrong answer is no probability.
        """
        require_fraction("wrong", wrong)
        super().__init__(self._scores, name="answer")
        self.answers, self.wrong = dict(answers), float(wrong)
        self.never_zero = self.wrong > 0
        self._grades: dict[tuple[str, str], bool] = {}

    def __repr__(self) -> str:
        """Show of how many questions the answer is known."""
        return f"AnswerReward({len(self.answers)} answers, wrong={self.wrong})"

    def check(self, question: str) -> None:
        """Raise `InputError` if the answer to the question is not known."""
        if question not in self.answers:
            raise InputError(
                "The reward `answer` knows the answers of a data set. Got another question, "
                f"{question[:60]!r}; accepted: a question of the data set."
            )

    def _scores(self, question: str, steps: Sequence[str]) -> list[float]:
        self.check(question)
        found = [extract_answer("".join(steps[:count])) for count in range(1, len(steps) + 1)]
        return [UNANSWERED if a is None else self._of(question, a) for a in found]

    def _of(self, question: str, answer: str) -> float:
        reference = self.answers[question]
        if (answer, reference) not in self._grades:
            self._grades[answer, reference] = grade(answer, reference) == "right"
        return 1.0 if self._grades[answer, reference] else self.wrong
