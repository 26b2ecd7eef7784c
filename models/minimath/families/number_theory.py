"""Number theory: greatest common divisors by Euclid's algorithm, and their sum."""

from dataclasses import dataclass
from math import gcd
from random import Random

from llmsmc.models.minimath.world.arithmetic import Calculator
from llmsmc.models.minimath.world.facts import Facts

LABELS = "ABCDEFGH"
LARGEST = 199
MOST_DIVISIONS = 40
"""A solution gone wrong is cut here: with wrong remainders the algorithm need not come down."""


@dataclass(frozen=True)
class DivisorSum:
    """Pairs of numbers labelled A, B, C, ...; asked for is the sum of their greatest divisors."""

    pairs: tuple[tuple[int, int], ...]
    abbreviated: bool

    @staticmethod
    def draw(random: Random, num_steps: int) -> "DivisorSum":
        """Draw pairs for which the divisions and additions are `num_steps` in number."""
        while True:
            pairs: list[tuple[int, int]] = []
            taken = 0
            while taken < num_steps and len(pairs) < len(LABELS):
                pair = _draw_pair(random)
                pairs.append(pair)
                taken += len(_quotients(*pair)) + (len(pairs) > 1)
            if taken == num_steps and sum(gcd(*pair) for pair in pairs) <= LARGEST:
                return DivisorSum(tuple(pairs), random.random() < 0.5)

    def question(self) -> str:
        """Return the problem in plain words."""
        name = "gcd" if self.abbreviated else "greatest common divisor"
        parts = [
            f"Let {label} be the {name} of {first} and {second}."
            for label, (first, second) in zip(LABELS, self.pairs, strict=False)
        ]
        return " ".join([*parts, f"What is {' + '.join(LABELS[: len(self.pairs)])}?"])

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        steps: list[str] = []
        total = 0
        for index, (larger, smaller) in enumerate(self.pairs):
            label = LABELS[index]
            while True:
                remainder, text = _remainder(larger, smaller, calculator)
                if remainder <= 0 or len(steps) > MOST_DIVISIONS:  # it may be negative, if wrong
                    steps.append(f"{label}: {text}, so {label} = {smaller}.")
                    break
                larger, smaller = max(smaller, remainder), min(smaller, remainder)
                steps.append(f"{label}: {text}, leaving {larger} and {smaller}.")
            if index == 0:
                total = smaller
            else:
                result = calculator.calculate("+", total, smaller)
                letters = " + ".join(LABELS[: index + 1])
                steps.append(f"{letters} = {total} + {smaller} = {result}.")
                total = result
        return steps, total

    def facts(self) -> Facts:
        """Return the facts of the problem."""
        divisors = [gcd(*pair) for pair in self.pairs]
        named = dict(zip(LABELS, divisors, strict=False))
        return Facts(answer=sum(divisors), variables=named, divisors=named)


def _remainder(larger: int, smaller: int, calculator: Calculator) -> tuple[int, str]:
    times = larger // smaller
    if times == 1:
        remainder = calculator.calculate("-", larger, smaller)
        return remainder, f"{larger} - {smaller} = {remainder}"
    product = calculator.calculate("*", times, smaller)
    remainder = calculator.calculate("-", larger, product)
    return remainder, f"{larger} - {times} * {smaller} = {larger} - {product} = {remainder}"


def _draw_pair(random: Random) -> tuple[int, int]:
    """Draw a pair, the larger first, whose divisions stay in the world's multiplication table."""
    while True:
        divisor = random.randint(2, 30)
        second = divisor * random.randint(1, 12)
        first = divisor * random.randint(2, LARGEST // divisor)
        if second < first <= LARGEST and all(
            times <= (6 if smaller <= 20 else 3) for times, smaller in _quotients(first, second)
        ):
            return first, second


def _quotients(larger: int, smaller: int) -> list[tuple[int, int]]:
    """Return the quotient and the divisor of each division of Euclid's algorithm."""
    found = []
    while smaller:
        found.append((larger // smaller, smaller))
        larger, smaller = smaller, larger % smaller
    return found
