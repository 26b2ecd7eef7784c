"""A reward of steps for tests."""

from collections.abc import Sequence


def by_length(question: str, steps: Sequence[str]) -> list[float]:
    return [1 / (1 + len(step)) for step in steps]
