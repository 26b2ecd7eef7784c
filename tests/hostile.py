"""Trees of JSON in which one thing is not what it is to be."""

import copy
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

LEFT_OUT: Final = object()
Place = tuple[str | int, ...]

VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 1e300, -1e300, 2**40, 2**62, 10**70, "", "x", "\ud800\u202e"),
    *([], [[]], [1, "a"], {}, {"a": 1}),
)
"""What stands where something else is expected."""


def places(tree: Any, at: Place = ()) -> Iterator[Place]:
    """Yield where something is in a tree, its root first."""
    yield at
    if isinstance(tree, dict | list):
        for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(child, (*at, key))


def with_value(tree: Any, place: Place, value: Any) -> Any:
    """Return a copy of the tree with another value there."""
    if not place:
        return value
    made = copy.deepcopy(tree)
    holder(made, place)[place[-1]] = value
    return made


def without(tree: Any, place: Place) -> Any:
    """Return a copy of the tree without what is there."""
    if not place:
        return None
    made = copy.deepcopy(tree)
    del holder(made, place)[place[-1]]
    return made


def holder(tree: Any, place: Place) -> Any:
    """Return the dict or list in which something is."""
    for key in place[:-1]:
        tree = tree[key]
    return tree


def mutants(tree: Any, count: int, values: Sequence[Any] = VALUES) -> Iterator[Any]:
    """Yield so many of the trees with one thing replaced by one of the values, or left out."""
    changes = [(place, value) for place in places(tree) for value in (*values, LEFT_OUT)]
    for place, value in Random(0).sample(changes, min(count, len(changes))):
        yield without(tree, place) if value is LEFT_OUT else with_value(tree, place, value)
