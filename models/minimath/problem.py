"""A MiniMath problem, drawn from a family at a level of difficulty."""

from dataclasses import dataclass
from random import Random

from llmsmc.models.minimath.families import FAMILIES, World
from llmsmc.models.minimath.world.arithmetic import Calculator, Exact
from llmsmc.models.minimath.world.facts import Facts

LEVELS: dict[int, tuple[int, ...]] = {1: (1, 2), 2: (3, 4), 3: (6, 7), 4: (10, 11), 5: (15, 16)}
"""Level -> numbers of calculating steps; the answer line is one step more."""

STEP_SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        id: its name within a data set.
        family: a key of `FAMILIES`.
        level: 1 (about two steps) to 5 (about sixteen).
        world: the quantities of the problem and how they follow from one another.
    """

    id: str
    family: str
    level: int
    world: World

    @property
    def question(self) -> str:
        """The problem in plain words."""
        return self.world.question()

    @property
    def answer(self) -> str:
        """The answer, as written in the box."""
        return str(self.facts.answer)

    @property
    def facts(self) -> Facts:
        """The facts of the problem."""
        return self.world.facts()

    def solution(self, calculator: Calculator | None = None) -> tuple[str, ...]:
        """Return the steps of a solution, exact by default; the last one gives the answer."""
        steps, answer = self.world.solve(calculator or Exact())
        return (*steps, f"The answer is \\boxed{{{answer}}}.")


def draw_problem(random: Random, level: int, *, family: str | None = None, id: str = "") -> Problem:
    """Draw a problem of a level, of a given family or of any."""
    name = family if family is not None else random.choice(sorted(FAMILIES))
    world = FAMILIES[name](random, random.choice(LEVELS[level]))
    return Problem(id, name, level, world)
