"""Chains of definitions with precedence.

``Let a = 7 + 4 * 12. Let b = a - 9. Let c = b + a. What is c?``
"""

from dataclasses import dataclass
from random import Random

from llmsmc.models.minimath.world.arithmetic import OPERATIONS, Calculator, Exact
from llmsmc.models.minimath.world.facts import Facts

LETTERS = "abcdefghijklmnopqrs"
LARGEST = 199
IN_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


@dataclass(frozen=True)
class Definition:
    """``letter = start operation operand [* factor]``.

    `start` is a number or the letter before, `operand` a number or any other letter before.
    """

    letter: str
    start: int | str
    operation: str
    operand: int | str
    factor: int | None = None


@dataclass(frozen=True)
class Chain:
    """Letters defined one from another, the last one asked for."""

    definitions: tuple[Definition, ...]
    worded: bool

    @staticmethod
    def draw(random: Random, num_steps: int) -> "Chain":
        """Draw a chain of `num_steps` definitions whose values stay within 0 to 199."""
        values: dict[str, int] = {}
        definitions = []
        for letter in LETTERS[:num_steps]:
            definition = _draw_definition(random, letter, values)
            values[letter] = _value(definition, values, Exact())[1]
            definitions.append(definition)
        return Chain(tuple(definitions), worded=random.random() < 0.5)

    def question(self) -> str:
        """Return the problem in plain words."""
        words = IN_WORDS if self.worded else {}
        verb = "be" if self.worded else "="
        sentences = []
        for d in self.definitions:
            text = f"{d.start} {words.get(d.operation, d.operation)} {d.operand}"
            if d.factor is not None:
                text += f" {words.get('*', '*')} {d.factor}"
            sentences.append(f"Let {d.letter} {verb} {text}.")
        return " ".join([*sentences, f"What is {self.definitions[-1].letter}?"])

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        steps, values = self._solved(calculator)
        return steps, values[self.definitions[-1].letter]

    def facts(self) -> Facts:
        """Return the facts of the problem."""
        _, values = self._solved(Exact())
        return Facts(answer=values[self.definitions[-1].letter], variables=values)

    def _solved(self, calculator: Calculator) -> tuple[list[str], dict[str, int]]:
        steps, values = list[str](), dict[str, int]()
        for definition in self.definitions:
            text, values[definition.letter] = _value(definition, values, calculator)
            steps.append(text)
        return steps, values


def _value(d: Definition, values: dict[str, int], calculator: Calculator) -> tuple[str, int]:
    """Return the step that works out a definition, and its value.

    The definition is copied, its letters recalled, then it is calculated and written down: one
    thing at a time. A letter "is" its value, so that this does not look like its definition.
    """
    letters = [part for part in (d.start, d.operand) if isinstance(part, str)]
    start, operand = (values[p] if isinstance(p, str) else p for p in (d.start, d.operand))
    factor = "" if d.factor is None else f" * {d.factor}"
    stages = [f"{start} {d.operation} {operand}{factor}"]
    if d.factor is None:
        result = calculator.calculate(d.operation, start, operand)
    elif calculator.confuses("precedence"):
        first = calculator.calculate(d.operation, start, operand)
        result = calculator.calculate("*", first, d.factor)
        stages.append(f"{first} * {d.factor}")
    else:
        product = calculator.calculate("*", operand, d.factor)
        result = calculator.calculate(d.operation, start, product)
        stages.append(f"{start} {d.operation} {product}")
    defined = f"{d.letter} = {d.start} {d.operation} {d.operand}{factor}"
    recalled = [f"{letter} is {values[letter]}" for letter in letters]
    calculated = f"{' = '.join(stages)} = {result}"
    return f"{'; '.join([defined, *recalled, calculated, f'{d.letter} is {result}'])}.", result


def _draw_definition(random: Random, letter: str, values: dict[str, int]) -> Definition:
    """Draw a definition by the letter before, so that the answer depends on every step.

    A second letter may stand anywhere before: where it stands is no help in finding it.
    """
    if not values:
        start: int | str = random.randint(2, 60)
        value = start
    else:
        start = max(values)
        value = values[start]
    assert isinstance(value, int)
    others = [other for other in sorted(values) if other != start]
    if others and random.random() < 0.3:
        other = random.choice(others)
        if value + values[other] <= LARGEST:
            return Definition(letter, start, "+", other)
        if value - values[other] >= 1:
            return Definition(letter, start, "-", other)
    while True:
        kind = random.random()
        if kind < 0.8:
            sign = "+" if kind < 0.25 or 0.5 <= kind < 0.65 else "-"
            operand = random.randint(2, 90 if kind < 0.5 else 9)
            factor = None if kind < 0.5 else random.randint(2, 15)
            if 1 <= OPERATIONS[sign](value, operand * (factor or 1)) <= LARGEST:
                return Definition(letter, start, sign, operand, factor)
        else:
            sign, operand = "*" if kind < 0.88 else "/", random.randint(2, 9)
            if (
                2 <= value <= 20
                if sign == "*"
                else value in range(2 * operand, 30 * operand + 1, operand)
            ):
                return Definition(letter, start, sign, operand)
