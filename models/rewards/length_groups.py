"""Rows of several lengths, in groups that are padded each to its longest row.

One group for all computes padding; a group for each length makes many small calls. Between the two
lies the cheapest cut.
"""

from collections.abc import Sequence


def length_groups(lengths: Sequence[int], call: int, most: int) -> list[range]:
    """Cut rows of ascending length into the groups that cost least.

    A group costs its number of rows times its longest one, and the price of a call.

    Args:
        lengths: of the rows, in ascending order.
        call: what a call costs, in positions.
        most: positions that a group may have; a longer row is a group of its own.

    Returns:
        The groups, as ranges of numbers of rows, in order.
    """
    ends = _ends(lengths, most)  # a group ends behind all rows of a length: those cost no padding
    begins, costs, firsts = [0, *ends], [0], list[int]()
    for last, end in enumerate(ends):
        options = list[tuple[int, int]]()
        for first in range(last, -1, -1):
            positions = (end - begins[first]) * lengths[end - 1]
            if positions > most and options:
                break
            options.append((costs[first] + call + positions, first))
        cost, first = min(options)
        costs.append(cost)
        firsts.append(first)
    groups, last = list[range](), len(ends)
    while last:
        first = firsts[last - 1]
        groups.append(range(begins[first], begins[last]))
        last = first
    return groups[::-1]


def _ends(lengths: Sequence[int], most: int) -> list[int]:
    """Return where a group may end: where the length changes, or where one would be too large."""
    ends, begin = list[int](), 0
    for row, length in enumerate(lengths, start=1):
        changes = row == len(lengths) or lengths[row] != length
        if changes or (row - begin + 1) * length > most:
            ends.append(row)
            begin = row
    return ends
