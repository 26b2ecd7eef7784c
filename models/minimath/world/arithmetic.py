"""Who calculates: an exact calculator, and one with misconceptions.

Every MiniMath solution is written by a family's `solve(calculator)`. With the exact
calculator that is the reference solution; with a `Misconceived` one it is a solution
whose errors are structured, confident and carried on consistently, as a real model's are.

A *misconception* has a trigger (a carry is due, a product of two large factors, ...) and a
probability. Where the trigger is strong the probability is above one half, so that the most
likely continuation is wrong (greedy decoding fails, a majority is misled) while the right one
is still drawn often (a filter can find it). *Slips* are rare and have no trigger.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Protocol, runtime_checkable


@runtime_checkable
class Calculator(Protocol):
    """Carries out the operations of a solution, rightly or not."""

    def add(self, left: int, right: int) -> int:
        """Return left + right."""
        ...

    def subtract(self, left: int, right: int) -> int:
        """Return left - right."""
        ...

    def multiply(self, left: int, right: int) -> int:
        """Return left * right."""
        ...

    def divide(self, left: int, right: int) -> int:
        """The quotient; rounded down where the division does not come out."""
        ...

    def confuses(self, misconception: str) -> bool:
        """Whether the solver falls for a misconception about method (not arithmetic) here."""
        ...


class Exact:
    """Right every time."""

    def add(self, left: int, right: int) -> int:
        """Return left + right."""
        return left + right

    def subtract(self, left: int, right: int) -> int:
        """Return left - right."""
        return left - right

    def multiply(self, left: int, right: int) -> int:
        """Return left * right."""
        return left * right

    def divide(self, left: int, right: int) -> int:
        """Return the quotient, rounded down."""
        return left // right

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


class Misconceived:
    """Calculates under misconceptions, drawn with a random source."""

    def __init__(self, random: Random, rates: Rates | None = None) -> None:
        """Make a calculator that consumes `random` and errs at `rates`."""
        self.random = random
        self.rates = rates or Rates()

    def add(self, left: int, right: int) -> int:
        """Return left + right, or what is taken for it."""
        units = left % 10 + right % 10
        forgets = units >= 10 and self._strikes(self.rates.carry, strong=units >= 13)
        return self._slip(left + right - 10 * forgets)

    def subtract(self, left: int, right: int) -> int:
        """Return left - right, or what is taken for it."""
        missing = right % 10 - left % 10
        forgets = missing > 0 and self._strikes(self.rates.borrow, strong=missing >= 4)
        return self._slip(left - right + 10 * forgets)

    def multiply(self, left: int, right: int) -> int:
        """Return left * right, or what is taken for it."""
        strikes = self._strikes(self.rates.product, strong=min(left, right) >= 6)
        factor = min(left, right)  # one group of the larger factor too many or too few
        off = (max(left, right) if factor > 1 else 1) * self.random.choice((-1, 1)) * strikes
        return self._slip(left * right + off)

    def divide(self, left: int, right: int) -> int:
        """Return the quotient, rounded down, or what is taken for it."""
        quotient = left // right
        strikes = self._strikes(self.rates.quotient, strong=quotient >= 8)
        return self._slip(quotient + self.random.choice((-1, 1)) * strikes)

    def confuses(self, misconception: str) -> bool:
        """Return whether a misconception about method strikes here."""
        return self.random.random() < self.rates.method[misconception]

    def _strikes(self, rates: tuple[float, float], *, strong: bool) -> bool:
        return self.random.random() < (rates[0] if strong else rates[1])

    def _slip(self, value: int) -> int:
        if self.random.random() >= self.rates.slip:
            return value
        return value + self.random.choice((-10, -1, 1, 10))
