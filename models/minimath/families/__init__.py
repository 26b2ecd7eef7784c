"""The families of MiniMath problems, one a file.

A family draws a problem of a given number of steps, words its question, and solves it step by
step with any calculator. It also says what is true of the problem, in words that the checker
looks up: that is all the checker knows of a family.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Protocol, runtime_checkable

from llmsmc.models.minimath.families.chains import Chain
from llmsmc.models.minimath.families.equations import Equations
from llmsmc.models.minimath.families.number_theory import DivisorSum
from llmsmc.models.minimath.families.rates import Stock
from llmsmc.models.minimath.families.sequences import Recurrence
from llmsmc.models.minimath.families.stories import Story
from llmsmc.models.minimath.world.arithmetic import Calculator
from llmsmc.models.minimath.world.facts import Facts


@runtime_checkable
class World(Protocol):
    """One problem: its question, its solution and its facts."""

    def question(self) -> str:
        """Return the problem in plain words."""
        ...

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        ...

    def facts(self) -> Facts:
        """Return the facts of the problem."""
        ...


FAMILIES: Mapping[str, Callable[[Random, int], World]] = {
    "chains": Chain.draw,
    "equations": Equations.draw,
    "stories": Story.draw,
    "rates": Stock.draw,
    "number-theory": DivisorSum.draw,
    "sequences": Recurrence.draw,
}
"""Family name -> function of (random source, number of steps) that draws a problem."""
