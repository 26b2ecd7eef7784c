"""Stories with several people and things.

``Ann has 14 apples. Ben has 9 more apples than Ann. Ben has twice as many pens as apples.``
"""

from dataclasses import dataclass
from random import Random

from llmsmc.models.minimath.arithmetic import Calculator, Exact
from llmsmc.models.minimath.facts import Facts, Subject

PEOPLE = ("Ann", "Ben", "Cal", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jan", "Kim", "Leo")
THINGS = ("apples", "books", "coins", "pens", "shells", "stamps")
SHARES = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}

Quantity = tuple[str, str]
"""Who has, and what."""


@dataclass(frozen=True)
class Relation:
    """What `quantity` is, seen from one or two quantities before it.

    `kind` is one of: more, fewer, times, share, together.
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
        free = _in_a_walk(random, free, num_steps + 1)
        count = random.randint(4, 80)
        values = {free[0]: count}
        relations = []
        for quantity in free[1:]:
            relation = _draw_relation(random, quantity, values)
            values[quantity] = _value(relation, values, Exact())[1]
            relations.append(relation)
        return Story(free[0], count, tuple(relations))

    def question(self) -> str:
        """Return the problem in plain words."""
        sentences = [f"{self.first[0]} has {self.count} {self.first[1]}."]
        sentences += [_sentence(relation) for relation in self.relations]
        person, thing = self.relations[-1].quantity
        return " ".join([*sentences, f"How many {thing} does {person} have?"])

    def solve(self, calculator: Calculator) -> tuple[list[str], int]:
        """Return the steps of a solution, without the answer line, and the answer."""
        values = {self.first: self.count}
        steps = []
        for relation in self.relations:
            text, values[relation.quantity] = _value(relation, values, calculator)
            steps.append(text)
        return steps, values[self.relations[-1].quantity]

    def facts(self) -> Facts:
        """Return what is true of the problem."""
        values = {self.first: self.count}
        for relation in self.relations:
            values[relation.quantity] = _value(relation, values, Exact())[1]
        return Facts(
            answer=values[self.relations[-1].quantity],
            subjects=tuple(Subject(q, frozenset({value})) for q, value in values.items()),
            additive=True,
        )


def _in_a_walk(random: Random, quantities: list[Quantity], length: int) -> list[Quantity]:
    """Order quantities so that each shares its person or its thing with the one before."""
    path = [random.choice(quantities)]
    rest = [q for q in quantities if q != path[0]]
    while len(path) < length:
        near = [q for q in rest if q[0] == path[-1][0] or q[1] == path[-1][1]] or rest
        path.append(random.choice(near))
        rest.remove(path[-1])
    return path


def _sentence(relation: Relation) -> str:
    person, thing = relation.quantity
    if relation.kind == "together":
        assert relation.second is not None
        return f"{person} has as many {thing} as {relation.source[0]} and {relation.second[0]}."
    other = relation.source[0] if relation.source[1] == thing else relation.source[1]
    if relation.kind in ("more", "fewer"):
        return f"{person} has {relation.amount} {relation.kind} {thing} than {other}."
    share = f"{relation.amount} times" if relation.kind == "times" else SHARES[relation.amount]
    return f"{person} has {share} as many {thing} as {other}."


def _value(r: Relation, values: dict[Quantity, int], calculator: Calculator) -> tuple[str, int]:
    source = values[r.source]
    thing = r.quantity[1]
    if r.kind == "together":
        assert r.second is not None
        amount, operation = values[r.second], "+"
    else:
        amount, operation = (
            r.amount,
            {"more": "+", "fewer": "-", "times": "*", "share": "/"}[r.kind],
        )
    if r.kind == "fewer" and calculator.confuses("fewer"):
        operation = "+"
    operate = {
        "+": calculator.add,
        "-": calculator.subtract,
        "*": calculator.multiply,
        "/": calculator.divide,
    }[operation]
    result = operate(source, amount)
    relation = _sentence(r).rstrip(".")  # copied first: then all that is needed stands near
    return f"{relation}, {source} {operation} {amount} = {result} {thing}.", result


def _draw_relation(random: Random, quantity: Quantity, values: dict[Quantity, int]) -> Relation:
    person, thing = quantity
    sources = [q for q in values if (q[1] == thing) != (q[0] == person)]
    if not sources:
        sources = [q for q in values if q[1] == thing or q[0] == person] or list(values)
    near = sources[-1]
    while True:
        source = near if random.random() < 0.8 else random.choice(sources)
        value = values[source]
        kind = random.choices(
            ("more", "fewer", "times", "share", "together"), (0.3, 0.3, 0.12, 0.14, 0.14)
        )[0]
        if kind == "together":
            same = [q for q in values if q[1] == thing and q != source]
            if source[1] == thing and same:
                second = random.choice(same)
                if value + values[second] <= 199:
                    return Relation(quantity, kind, 0, source, second)
        elif kind == "more":
            amount = random.randint(2, 90)
            if value + amount <= 199:
                return Relation(quantity, kind, amount, source)
        elif kind == "fewer":
            amount = random.randint(2, 90)
            if value - amount >= 1:
                return Relation(quantity, kind, amount, source)
        elif kind == "times":
            amount = random.randint(2, 9)
            if value <= 19 and value * amount <= 180:
                return Relation(quantity, kind, amount, source)
        else:
            amount = random.choice(list(SHARES))
            if value % amount == 0 and value // amount <= 60:
                return Relation(quantity, kind, amount, source)
