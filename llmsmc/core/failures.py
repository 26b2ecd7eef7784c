"""Counts of failures by kind: messages of one kind are counted together."""

import re
from collections.abc import Mapping
from typing import Final

Failures = dict[str, int]
"""The first message of each kind, and the number of messages of that kind."""

_VARYING: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|[0-9]+")


def kind_of(message: str) -> str:
    """Return the kind of a message: the message without its numbers and quoted parts."""
    return _VARYING.sub("_", message.partition(" Got ")[0])


def together(one: Mapping[str, int], other: Mapping[str, int]) -> Failures:
    """Return the failures of both; a kind keeps its first message, from `one` if it is there."""
    total = dict(one)
    first = {kind_of(message): message for message in one} if other else {}
    for message, count in other.items():
        message = first.setdefault(kind_of(message), message)
        total[message] = total.get(message, 0) + count
    return total


def since(total: Mapping[str, int], earlier: Mapping[str, int]) -> Failures:
    """Return the failures since `earlier`."""
    left = {message: count - earlier.get(message, 0) for message, count in total.items()}
    return {message: count for message, count in left.items() if count}
