"""The calculators: an exact one, and one with misconceptions.

Every MiniMath solution is written by a family's `solve(calculator)`. With the exact
calculator that is the reference solution; with a `Misconceived` one it is a solution
whose errors are structured, confident and carried on consistently, as a real model's are.

A *misconception* has a trigger (a carry is due, a product of two large factors, ...) and a
probability. Where the trigger is strong the probability is above one half, so that the most
likely continuation is wrong (greedy decoding fails, a majority is misled) while the right one
is still drawn often (a filter can find it). *Slips* are rare and have no trigger.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, runtime_checkable


@runtime_checkable
class Calculator(Protocol):
    """Carries out the operations of a solution, rightly or not."""

    def calculate(self, sign: str, left: int, right: int) -> int:
        """Return `left sign right`; a quotient is rounded down where it does not come out."""
        ...

    def confuses(self, misconception: str) -> bool:
        """Return whether a misconception about method (not arithmetic) strikes here."""
        ...


OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


class Exact:
    """A calculator that is right every time."""

    def calculate(self, sign: str, left: int, right: int) -> int:
        """Return `left sign right`."""
        return OPERATIONS[sign](left, right)

    def confuses(self, misconception: str) -> bool:
        """Return whether a misconception about method strikes here."""
        return False


@dataclass(frozen=True)
class Rates:
    """Probabilities of the misconceptions: `strong` and `weak` by the strength of the trigger.

    Attributes:
        carry: ten is not carried; strong where the units add up to 13 or more.
        borrow: ten is not borrowed; strong where the units differ by 4 or more.
        product: off by one factor; strong where both factors are at least 6.
        quotient: off by one; strong where the quotient is at least 8.
        method: `precedence` (adds before it multiplies), `sign` (a term keeps its sign when it
            changes sides), `less` (read as plus), `fifth` (20% taken as a quarter).
        slip: any result, by 1 or by 10.
    """

    carry: tuple[float, float] = (0.60, 0.15)
    borrow: tuple[float, float] = (0.60, 0.15)
    product: tuple[float, float] = (0.55, 0.06)
    quotient: tuple[float, float] = (0.50, 0.05)
    method: dict[str, float] = field(
        default_factory=lambda: {"precedence": 0.35, "sign": 0.25, "less": 0.25, "fifth": 0.45}
    )
    slip: float = 0.01


@dataclass
class Misconceived:
    """A calculator under misconceptions, which `random` draws at `rates`."""

    random: Random
    rates: Rates = field(default_factory=Rates)

    def calculate(self, sign: str, left: int, right: int) -> int:
        """Return `left sign right`, or the result that is taken for it."""
        result, rates = OPERATIONS[sign](left, right), self.rates
        if sign == "+":
            units = left % 10 + right % 10
            result -= 10 * (units >= 10 and self._strikes(rates.carry, strong=units >= 13))
        elif sign == "-":
            missing = right % 10 - left % 10
            result += 10 * (missing > 0 and self._strikes(rates.borrow, strong=missing >= 4))
        elif sign == "*":
            strikes = self._strikes(rates.product, strong=min(left, right) >= 6)
            # One group of the larger factor too many or too few.
            group = max(left, right) if min(left, right) > 1 else 1
            result += group * self.random.choice((-1, 1)) * strikes
        else:
            strikes = self._strikes(rates.quotient, strong=result >= 8)
            result += self.random.choice((-1, 1)) * strikes
        if self.random.random() < rates.slip:
            result += self.random.choice((-10, -1, 1, 10))
        return result

    def confuses(self, misconception: str) -> bool:
        """Return whether a misconception about method strikes here."""
        return self.random.random() < self.rates.method[misconception]

    def _strikes(self, rates: tuple[float, float], *, strong: bool) -> bool:
        return self.random.random() < (rates[0] if strong else rates[1])
