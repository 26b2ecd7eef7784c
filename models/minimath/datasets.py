"""The fixed sets: `minimath-train` (endless), `minimath-dev` and `minimath-500`.

A question belongs to one set by a hash of its words, so that no two sets share a question
whatever seed or recipe draws them.
"""

from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from itertools import islice
from random import Random

from llmsmc.models.minimath.families import FAMILIES
from llmsmc.models.minimath.problem import LEVELS, Problem, draw_problem

TRAIN, DEV, TEST = "minimath-train", "minimath-dev", "minimath-500"

NAMES = (TRAIN, DEV, TEST)

NUM_TRAIN = 20_000
"""Questions of the training set that are known by its name."""


def set_of(question: str) -> str:
    """Return the set of a question: 2% are for testing, 2% for development."""
    bucket = int.from_bytes(blake2b(question.encode(), digest_size=4).digest(), "big") % 100
    return TEST if bucket < 2 else DEV if bucket < 4 else TRAIN


def minimath_train(seed: int = 0) -> Iterator[Problem]:
    """Yield training problems without end, all levels and families alike."""
    random = Random(f"{TRAIN}/{seed}")
    number = 0
    while True:
        problem = draw_problem(random, random.choice(sorted(LEVELS)), id=f"{TRAIN}/{seed}/{number}")
        if set_of(problem.question) == TRAIN:
            number += 1
            yield problem


@cache
def minimath_dev(num_a_level: int = 40) -> tuple[Problem, ...]:
    """Return the problems for choosing settings, 40 a level by default."""
    return _fixed(DEV, num_a_level)


@cache
def minimath_500() -> tuple[Problem, ...]:
    """Return the test set: 100 problems a level.

    Families come in turn, and so do levels, so that the first n problems are a fair sample.
    """
    return _fixed(TEST, 100)


def load(name: str) -> tuple[Problem, ...]:
    """Return a fixed set by name; of the endless training set, the first `NUM_TRAIN` questions.

    Raises:
        KeyError: the name is none of `NAMES`.
    """
    if name == TRAIN:
        return _first_of_train()
    return {DEV: minimath_dev, TEST: minimath_500}[name]()


@cache
def _first_of_train() -> tuple[Problem, ...]:
    """Return the first problems whose questions differ."""
    found = dict[str, Problem]()
    for problem in minimath_train():
        found.setdefault(problem.question, problem)
        if len(found) == NUM_TRAIN:
            break
    return tuple(found.values())


def _fixed(name: str, num_a_level: int) -> tuple[Problem, ...]:
    columns = [list(islice(_level(name, level), num_a_level)) for level in sorted(LEVELS)]
    return tuple(problem for row in zip(*columns, strict=True) for problem in row)


def _level(name: str, level: int) -> Iterator[Problem]:
    random = Random(f"{name}/{level}")
    families = sorted(FAMILIES)
    seen: set[str] = set()
    while True:
        family = families[len(seen) % len(families)]
        problem = draw_problem(random, level, family=family, id=f"{name}/{level}/{len(seen):03d}")
        if set_of(problem.question) == name and problem.question not in seen:
            seen.add(problem.question)
            yield problem
