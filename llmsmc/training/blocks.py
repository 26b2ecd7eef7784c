"""Work in blocks whose members share batches, and which are done again where one is missing.

Numbers that are computed in a batch of another size may differ in their last bits. Work is
therefore done in blocks that do not depend on what exists already, and a block of which anything is
missing is done again, so that work that was interrupted comes to the same result.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from llmsmc.models.batching.scheduler import run_together

T = TypeVar("T")
R = TypeVar("R")

BLOCKS: Final = 2  # a block has so many times as many members as are in flight


def missing_results(
    items: Sequence[T],
    work: Callable[[T], R],
    name: Callable[[T], object],
    done: Collection[object],
    in_flight: int,
) -> Iterator[tuple[T, R]]:
    """Yield each item that is not done with its result, as they come.

    Args:
        items: all of them, in order.
        work: what is done with one; it may use shared models (`run_together`).
        name: of an item.
        done: the names of those that are done.
        in_flight: how many are under way at a time.
    """
    size = BLOCKS * in_flight
    for start in range(0, len(items), size):
        block = items[start : start + size]
        missing = {name(item) for item in block}.difference(done)
        if not missing:
            continue
        for number, result in run_together([partial(work, item) for item in block], in_flight):
            if isinstance(result, Exception):
                raise result
            if name(block[number]) in missing:
                yield block[number], result
                missing.remove(name(block[number]))
            if not missing:
                break
