"""Stories with several people and things, their sentences lettered.

``(a) Ann has 14 apples. (b) Ben has as many apples as Ann plus 9. (c) Ben has as many pens as
apples times 2.``
"""

from dataclasses import dataclass
from random import Random

from llmsmc.models.minimath.world.arithmetic import OPERATIONS, Calculator, Exact
from llmsmc.models.minimath.world.facts import Facts, Subject

PEOPLE = ("Ann", "Ben", "Cal", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jan", "Kim", "Leo")
THINGS = ("apples", "books", "coins", "pens", "shells", "stamps")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHARES = (2, 3, 4, 5)
AS_SAID = {"plus": "plus", "less": "less", "times": "times", "share": "divided by"}
SIGNS = {"plus": "+", "less": "-", "times": "*", "share": "/", "together": "+"}

Quantity = tuple[str, str]
"""A person and a thing."""


@dataclass(frozen=True)
class Relation:
    """The value of `quantity`, as it follows from one or two quantities before it.

    `kind` is one of: plus, less, times, share, together.
    """

    quantity: Quantity
    kind: str
    amount: int
    source: Quantity
    second: Quantity | None = None


@dataclass(frozen=True)
class Story:
    """One given quantity, and relations that lead to the others; the last one is asked for."""

    first: Quantity
    count: int
    relations: tuple[Relation, ...]

    @staticmethod
    def draw(random: Random, num_steps: int) -> "Story":
        """Draw a story of `num_steps` relations whose counts stay within 1 to 199."""
        things = random.sample(THINGS, 1 if num_steps <= 2 else 2 if num_steps <= 7 else 3)
        people = random.sample(PEOPLE, min(len(PEOPLE), 3 + num_steps // len(things)))
        free = [(person, thing) for thing in things for person in people]
        path = _walk(random, free, num_steps + 1)
        count = random.randint(4, 80)
        values = {path[0]: count}
        relations = []
        for number, quantity in enumerate(path[1:], start=1):
            relation = _draw_relation(random, quantity, path[:number], values)
            values[quantity] = _value(relation, values, Exact())[1]
            relations.append(relation)
        return Story(path[0], count, tuple(relations))

    def question(self) -> str:
        """Return the problem in plain words."""
        sentences = [f"{self.first[0]} has {self.count} {self.first[1]}"]
        sentences += [_sentence(relation) for relation in self.relations]
        person, thing = self.relations[-1].quantity
        lettered = [f"({letter}) {text}." for letter, text in zip(LETTERS, sentences, strict=False)]
        return " ".join([*lettered, f"How many {thing} does {person} have?"])

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        steps, values = self._solved(calculator)
        return steps, values[self.relations[-1].quantity]

    def facts(self) -> Facts:
        """Return the facts of the problem."""
        _, values = self._solved(Exact())
        return Facts(
            answer=values[self.relations[-1].quantity],
            subjects=tuple(Subject(q, frozenset({value})) for q, value in values.items()),
            additive=True,
        )

    def _solved(self, calculator: Calculator) -> tuple[list[str], dict[Quantity, int]]:
        steps, values = list[str](), {self.first: self.count}
        for letter, relation in zip(LETTERS[1:], self.relations, strict=False):
            text, values[relation.quantity] = _value(relation, values, calculator)
            steps.append(f"({letter}) {text}")
        return steps, values


def _walk(random: Random, quantities: list[Quantity], length: int) -> list[Quantity]:
    """Draw quantities, each of the same person or the same thing as the one before."""
    path: list[Quantity] = []
    while len(path) < length:
        last = path[-1] if path else random.choice(quantities)
        near = [q for q in quantities if q not in path and (q[0] == last[0] or q[1] == last[1])]
        path = [*path, random.choice(near)] if near else []  # a dead end: from the start again
    return path


def _sentence(relation: Relation) -> str:
    """Return the relation in words, with the number last, right behind the word of its operation.

    A small network finds the words that it looks up at the number; a word that stands far from it
    ("9 more apples than Ann") it copies at random.
    """
    person, thing = relation.quantity
    source, second = relation.source, relation.second
    other = source[0] if source[1] == thing else source[1]
    if second is not None:
        last = f"and {second[0]}"
    else:
        last = f"{AS_SAID[relation.kind]} {relation.amount}"
    return f"{person} has as many {thing} as {other} {last}"


def _value(r: Relation, values: dict[Quantity, int], calculator: Calculator) -> tuple[str, int]:
    """Return the step that works out a relation, and its value.

    The sentence is copied, its quantities are recalled, the result is calculated and written down
    under its name: one thing at a time, and each number next to the name of its quantity.
    """
    recalled = [r.source] if r.second is None else [r.source, r.second]
    amount = r.amount if r.second is None else values[r.second]
    misread = r.kind == "less" and calculator.confuses("less")
    operation = "+" if misread else SIGNS[r.kind]
    source = values[r.source]
    result = calculator.calculate(operation, source, amount)
    stated = [_named(quantity, values[quantity]) for quantity in recalled]
    calculated = f"{source} {operation} {amount} = {result}"
    return f"{'; '.join([_sentence(r), *stated, calculated, _named(r.quantity, result)])}.", result


def _named(quantity: Quantity, value: int) -> str:
    person, thing = quantity
    return f"{thing} of {person}: {value}"


def _draw_relation(
    random: Random, quantity: Quantity, before: list[Quantity], values: dict[Quantity, int]
) -> Relation:
    """Draw a relation to the quantity before, or the two before: the answer needs every step."""
    source, thing = before[-1], quantity[1]
    value = values[source]
    if len(before) > 1 and thing == source[1] == before[-2][1] and random.random() < 0.5:
        if value + values[before[-2]] <= 199:
            return Relation(quantity, "together", 0, source, before[-2])
    while True:
        kind = random.choices(("plus", "less", "times", "share"), (0.35, 0.35, 0.15, 0.15))[0]
        if kind in ("plus", "less"):
            amount = random.randint(2, 90)
            if 1 <= OPERATIONS[SIGNS[kind]](value, amount) <= 199:
                return Relation(quantity, kind, amount, source)
        elif kind == "times":
            amount = random.randint(2, 9)
            if value <= 19 and value * amount <= 180:
                return Relation(quantity, kind, amount, source)
        else:
            amount = random.choice(SHARES)
            if value % amount == 0 and value // amount <= 60:
                return Relation(quantity, kind, amount, source)
