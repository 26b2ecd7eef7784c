"""Short names of cells: the series, and the values that differ within it."""

from collections.abc import Collection, Sequence
from typing import Any

Values = dict[str, Any]


def labels(cells: Sequence[Values], without: Collection[str | None] = ()) -> list[str]:
    """Return a name for each of the cells, given by their values.

    Args:
        cells: the values of all cells.
        without: keys that are shown otherwise, for example on an axis.
    """
    skipped = {"series", "algorithm", *without}
    named = []
    for values in cells:
        others = [each for each in cells if each["series"] == values["series"]]
        places = {tuple(str(each.get(key)) for key in without if key) for each in others}
        if len(places) == len(others):  # each has a place of its own there
            others = [values]
        rest = [
            f"{key.replace('_', ' ')} {value}"
            for key, value in values.items()
            if key not in skipped and len({str(each.get(key)) for each in others}) > 1
        ]
        named.append(", ".join([values["series"], *rest]))
    return named
