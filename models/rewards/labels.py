"""Labels of steps, from which rewards are trained."""

import math
from collections.abc import Iterable

from llmsmc.core.counted import counted
from llmsmc.errors import InputError


def mean_label(labels: Iterable[float], split: str) -> float:
    """Return the mean of the labels of a split, NaN left out: the share of steps that are right.

    Args:
        labels: how probable it is that each step is right; NaN where it is not used.
        split: what the error calls them.

    Raises:
        InputError: there is no label, or all are of one class, from which nothing can be learnt.
    """
    used = [label for label in labels if not math.isnan(label)]
    share = sum(used) / len(used) if used else 0.0
    if 0 < share < 1:
        return share
    got = counted(len(used), "label")
    if used:
        got += f", all of one kind (all {'right' if share else 'wrong'})"
    raise InputError(
        f"A reward is trained on right steps and wrong ones. Got {got} in the split {split!r}; "
        "accepted: labels of both kinds, as of more questions, or of easier or harder ones."
    )
