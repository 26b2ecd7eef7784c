r"""A checker of the arithmetic that is written in a step, as a reward.

| the step | score |
| --- | --- |
| an equation between numbers in it does not hold | `wrong` |
| all of them hold, or there are none | 1 |

See `llmsmc.models.rewards.equations` for what is read, and how cautiously. A right sum may be the
wrong one to do: the score says that nothing is wrong with the sums, not that the step is right.
"""

from collections.abc import Sequence
from typing import Final

from llmsmc.core.checks import require_fraction
from llmsmc.models.rewards.equations import equations
from llmsmc.models.rewards.reward_function import RewardFunction

WRONG: Final = 0.01


class ArithmeticReward(RewardFunction):
    """Whether the sums that a step writes out are right.

    Attributes:
        wrong: the score of a step with a wrong one.
    """

    def __init__(self, *, wrong: float | int = WRONG) -> None:
        """Take the score of a step with a wrong sum.

        Raises:
            InputError: it is no probability.
        """
        require_fraction("wrong", wrong)
        name = "arithmetic" if wrong == WRONG else f"arithmetic:wrong={wrong:g}"
        super().__init__(self._scores, name=name)
        self.wrong = float(wrong)
        self.never_zero = self.wrong > 0

    def __repr__(self) -> str:
        """Show the score of a wrong sum."""
        return f"ArithmeticReward(wrong={self.wrong})"

    def _scores(self, question: str, steps: Sequence[str]) -> list[float]:
        return [
            self.wrong if any(each.holds is False for each in equations(step)) else 1.0
            for step in steps
        ]
