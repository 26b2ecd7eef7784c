"""A checker of steps for tests, which knows nothing of what they say."""

from collections.abc import Sequence


def short(question: str, steps: Sequence[str]) -> list[bool]:
    return [len(step) % 3 > 0 for step in steps]


def one_too_few(question: str, steps: Sequence[str]) -> list[bool]:
    return [True] * (len(steps) - 1)


NOTHING = None


def generous(question: str, steps: Sequence[str]) -> list[bool]:
    return [True for _ in steps]
