"""Sequences whose next term depends on the last one: on its parity, or on a threshold."""

from dataclasses import dataclass
from random import Random

from llmsmc.models.minimath.world.arithmetic import Calculator, Exact
from llmsmc.models.minimath.world.facts import Facts, Subject


@dataclass(frozen=True)
class Recurrence:
    """A rule by which each term follows from the one before.

    Rule `halving`: an even term is halved, to an odd term `increase` is added.
    Rule `falling`: a term above `threshold` falls by `decrease`, others rise by `increase`.
    """

    rule: str
    start: int
    increase: int
    threshold: int
    decrease: int
    num_terms: int

    @staticmethod
    def draw(random: Random, num_steps: int) -> "Recurrence":
        """Draw a sequence of which the term after `num_steps` steps is asked for."""
        if random.random() < 0.5:
            increase = random.randrange(11, 90, 2)
            return Recurrence("halving", random.randint(10, 110), increase, 0, 0, num_steps + 1)
        threshold = random.randint(4, 10) * 10
        increase, decrease = random.randint(11, 90), random.randint(11, threshold)
        start = random.randint(5, 100)
        return Recurrence("falling", start, increase, threshold, decrease, num_steps + 1)

    def question(self) -> str:
        """Return the problem in plain words."""
        if self.rule == "halving":
            rule = (
                "After an even term comes half of it. "
                f"After an odd term comes {self.increase} more."
            )
        else:
            rule = (
                f"After a term above {self.threshold} comes {self.decrease} less. "
                f"After any other term comes {self.increase} more."
            )
        return f"Term 1 is {self.start}. {rule} What is term {self.num_terms}?"

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        term = self.start
        steps = []
        for index in range(2, self.num_terms + 1):
            text, term = self._next(term, calculator)
            steps.append(f"Term {index}: {text}")
        return steps, term

    def facts(self) -> Facts:
        """Return the facts of the problem."""
        term = self.start
        subjects = [Subject(("term", "1"), frozenset({term}))]
        for index in range(2, self.num_terms + 1):
            term = self._next(term, Exact())[1]
            subjects.append(Subject(("term", str(index)), frozenset({term})))
        return Facts(answer=term, subjects=tuple(subjects))

    def _next(self, term: int, calculator: Calculator) -> tuple[str, int]:
        if self.rule == "halving" and term % 2 == 0:
            result = calculator.calculate("/", term, 2)
            return f"{term} is even, {term} / 2 = {result}.", result
        if self.rule == "falling" and term > self.threshold:
            result = calculator.calculate("-", term, self.decrease)
            return (
                f"{term} is above {self.threshold}, {term} - {self.decrease} = {result}."
            ), result
        result = calculator.calculate("+", term, self.increase)
        reason = "odd" if self.rule == "halving" else f"not above {self.threshold}"
        return f"{term} is {reason}, {term} + {self.increase} = {result}.", result
