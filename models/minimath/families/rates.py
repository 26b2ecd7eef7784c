"""Rates and percentages: a stock that grows by so much a day and shrinks by a percentage."""

from dataclasses import dataclass
from random import Random

from llmsmc.models.minimath.world.arithmetic import Calculator, Exact
from llmsmc.models.minimath.world.facts import Facts, Subject

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September")
PLACES = {"shop": "boxes", "farm": "eggs", "tank": "litres", "library": "books"}
PARTS = {10: 10, 20: 5, 25: 4, 50: 2}
"""Percentage -> divisor."""


@dataclass(frozen=True)
class Event:
    """The event of a month: a percentage is lost, or an amount a day comes or goes."""

    month: str
    kind: str  # percent, gain, loss
    amount: int
    days: int = 0


@dataclass(frozen=True)
class Stock:
    """A stock followed through the months; the question is how much is there in the end."""

    place: str
    start: int
    events: tuple[Event, ...]

    @staticmethod
    def draw(random: Random, num_steps: int) -> "Stock":
        """Draw about ``num_steps / 2`` events, two steps each; the stock stays in 1 to 199."""
        stock = start = (
            random.randint(2, 18) * 10 if random.random() < 0.5 else random.randint(20, 180)
        )
        events = []
        for month in MONTHS[: max(1, round(num_steps / 2))]:
            event = _draw_event(random, month, stock)
            stock = _change(event, stock, Exact())[2]
            events.append(event)
        return Stock(random.choice(sorted(PLACES)), start, tuple(events))

    def question(self) -> str:
        """Return the problem in plain words."""
        thing = PLACES[self.place]
        sentences = [f"A {self.place} starts with {self.start} {thing}."]
        for e in self.events:
            if e.kind == "percent":
                sentences.append(f"In {e.month} it loses {e.amount}% of its {thing}.")
            else:
                verb = "gets" if e.kind == "gain" else "loses"
                sentences.append(
                    f"In {e.month} it {verb} {e.amount} {thing} a day for {e.days} days."
                )
        return " ".join([*sentences, f"How many {thing} does it have in the end?"])

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        stock = self.start
        steps = []
        for event in self.events:
            first, second, stock = _change(event, stock, calculator)
            steps += [first, second]
        return steps, stock

    def facts(self) -> Facts:
        """Return the facts of the problem."""
        stock = self.start
        subjects = []
        for event in self.events:
            after = _change(event, stock, Exact())[2]
            subjects.append(Subject((event.month,), frozenset({abs(after - stock), after})))
            stock = after
        return Facts(answer=stock, subjects=tuple(subjects))


def _change(e: Event, stock: int, calculator: Calculator) -> tuple[str, str, int]:
    if e.kind == "percent":
        part = PARTS[e.amount]
        if part == 5 and calculator.confuses("fifth"):
            part = 4
        change = calculator.calculate("/", stock, part)
        first = f"{e.month}: {e.amount}% of {stock} = {stock} / {part} = {change}."
    else:
        change = calculator.calculate("*", e.amount, e.days)
        first = f"{e.month}: {e.amount} * {e.days} = {change}."
    sign = "+" if e.kind == "gain" else "-"
    after = calculator.calculate(sign, stock, change)
    return first, f"{e.month}: {stock} {sign} {change} = {after}.", after


def _draw_event(random: Random, month: str, stock: int) -> Event:
    percents = [p for p, part in PARTS.items() if stock % part == 0 and stock // part >= 1]
    while True:
        kind = random.random()
        if kind < 0.4 and percents and stock > 10:
            return Event(month, "percent", random.choice(percents))
        amount, days = random.randint(2, 15), random.randint(2, 9)
        if kind < 0.75 and stock + amount * days <= 199:
            return Event(month, "gain", amount, days)
        if kind >= 0.75 and stock - amount * days >= 1:
            return Event(month, "loss", amount, days)
