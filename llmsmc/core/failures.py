"""Why something has failed, by kind: messages that say the same are counted together."""

import re
from collections.abc import Mapping
from typing import Final

Failures = dict[str, int]
"""The first message of each kind, and how many there were of it."""

_VARYING: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|[0-9]+")


def kind_of(message: str) -> str:
    """Return what is the same in messages of one kind: all but numbers and what is in quotes."""
    return _VARYING.sub("_", message.partition(" Got ")[0])


def together(one: Mapping[str, int], other: Mapping[str, int]) -> Failures:
    """Return the failures of both, those of one kind under the first message of `one`."""
    total = dict(one)
    first = {kind_of(message): message for message in one} if other else {}
    for message, count in other.items():
        message = first.setdefault(kind_of(message), message)
        total[message] = total.get(message, 0) + count
    return total


def since(total: Mapping[str, int], earlier: Mapping[str, int]) -> Failures:
    """Return the failures that came to those of `earlier`."""
    left = {message: count - earlier.get(message, 0) for message, count in total.items()}
    return {message: count for message, count in left.items() if count}
