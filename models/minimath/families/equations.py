"""Linear equations solved one after another.

``Solve 3x + 5 = 26. 2y - 4x = 2. What is y?``
"""

from dataclasses import dataclass
from random import Random

from llmsmc.models.minimath.world.arithmetic import Calculator, Exact
from llmsmc.models.minimath.world.facts import Facts

UNKNOWNS = "xyzuvwpqr"


@dataclass(frozen=True)
class Equation:
    """``coefficient unknown sign term = total``; `term` is a number, or `term` times `earlier`."""

    unknown: str
    coefficient: int
    sign: str
    term: int
    earlier: str | None
    total: int


@dataclass(frozen=True)
class Equations:
    """A triangular system: each equation brings one new unknown; the last one is asked for."""

    equations: tuple[Equation, ...]
    opening: str

    @staticmethod
    def draw(random: Random, num_steps: int) -> "Equations":
        """Draw a system of about ``num_steps / 2`` equations, two steps each."""
        values: dict[str, int] = {}
        equations = []
        for unknown in UNKNOWNS[: max(1, round(num_steps / 2))]:
            equations.append(_draw_equation(random, unknown, values))
        return Equations(tuple(equations), random.choice(("Solve", "Given", "Suppose")))

    def question(self) -> str:
        """Return the problem in plain words."""
        texts = [
            f"{e.coefficient}{e.unknown} {e.sign} {e.term}{e.earlier or ''} = {e.total}."
            for e in self.equations
        ]
        return f"{self.opening} {' '.join(texts)} What is {self.equations[-1].unknown}?"

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        steps, values = self._solved(calculator)
        return steps, values[self.equations[-1].unknown]

    def facts(self) -> Facts:
        """Return the facts of the problem."""
        _, values = self._solved(Exact())
        return Facts(answer=values[self.equations[-1].unknown], variables=values)

    def _solved(self, calculator: Calculator) -> tuple[list[str], dict[str, int]]:
        steps, values = list[str](), dict[str, int]()
        for e in self.equations:
            texts, values[e.unknown] = _solve(e, values, calculator)
            steps += texts
        return steps, values


def _solve(
    e: Equation, values: dict[str, int], calculator: Calculator
) -> tuple[tuple[str, str], int]:
    sign = "+" if (e.sign == "-") != calculator.confuses("sign") else "-"
    if e.earlier is None:
        right = calculator.calculate(sign, e.total, e.term)
        work = f"{e.total} {sign} {e.term} = {right}"
    else:
        product = calculator.calculate("*", e.term, values[e.earlier])
        right = calculator.calculate(sign, e.total, product)
        work = (
            f"{e.total} {sign} {e.term} * {values[e.earlier]} = "
            f"{e.total} {sign} {product} = {right}"
        )
    value = calculator.calculate("/", right, e.coefficient)
    return (
        f"{e.coefficient}{e.unknown} = {work}.",
        f"{e.unknown} = {right} / {e.coefficient} = {value}.",
    ), value


def _draw_equation(random: Random, unknown: str, values: dict[str, int]) -> Equation:
    earlier = list(values)[-1] if values else None
    while True:
        value, coefficient = random.randint(2, 19), random.randint(2, 9)
        # The earlier unknown weighs at least as much as the new one: an error in it is not
        # lost in the division.
        term = random.randint(2, 60) if earlier is None else random.randint(coefficient, 9)
        amount = term if earlier is None else term * values[earlier]
        sign = random.choice("+-")
        product = value * coefficient
        total = product + amount if sign == "+" else product - amount
        if 1 <= total <= 199:
            values[unknown] = value
            return Equation(unknown, coefficient, sign, term, earlier, total)
