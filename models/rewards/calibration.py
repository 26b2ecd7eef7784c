r"""Calibration of a reward model: one temperature for all of its log-odds.

A score is calibrated if, of the steps that are scored r, a fraction r is right. With log-odds $l_i$
and labels $y_i = \pm 1$ (right, wrong) of some steps, the temperature T minimises the negative
log-likelihood

$$\sum_i \log(1 + \exp(-y_i \, l_i / T)),$$

which is convex in 1 / T. The order of the scores stays; what changes is how much they weigh.

Reference: Guo, Pleiss, Sun, Weinberger (2017). On calibration of modern neural networks.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from llmsmc.errors import InputError

_NUM_BISECTIONS = 100


def fit_temperature(
    log_odds: Sequence[float] | Tensor, labels: Sequence[bool] | Sequence[int] | Tensor
) -> float:
    """Return the temperature for `RewardModel(..., calibration=)`, from steps with labels.

    Args:
        log_odds: of the scores, as `RewardModel.log_odds` returns them, at calibration 1.
        labels: whether each of the steps is right.

    Raises:
        InputError: the numbers differ, some are not finite, or no temperature is the best: all
            labels agree with their scores, or the scores say nothing about them.
    """
    values = torch.as_tensor(log_odds, dtype=torch.float64).flatten()
    right = torch.as_tensor(labels).flatten().bool()
    if len(values) != len(right) or not len(values) or not bool(values.isfinite().all()):
        raise InputError(
            f"Each step has a label. Got {len(values)} log-odds and {len(right)} labels; accepted: "
            "as many of both, at least one, and finite log-odds."
        )
    agreement = torch.where(right, values, -values)

    def slope(inverse: float) -> float:
        return float((agreement * (-inverse * agreement).sigmoid()).sum())

    if not bool((agreement < 0).any()) or slope(0.0) <= 0:
        got = "labels that agree with all of them" if slope(0.0) > 0 else "labels of the other sign"
        raise InputError(
            f"No temperature fits these log-odds best. Got {got}; accepted: more steps, some of "
            "which are scored wrongly, though fewer than are scored rightly."
        )
    low, high = 0.0, 1.0
    while slope(high) > 0:
        low, high = high, 2 * high
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return 1 / high


def require_temperature(calibration: object) -> None:
    """Raise `InputError` unless log-odds can be divided by it."""
    number = isinstance(calibration, int | float) and not isinstance(calibration, bool)
    if not number or not 0 < calibration < math.inf:  # type: ignore[operator]
        raise InputError(
            f"calibration is a temperature. Got {calibration!r}; accepted: 0 < calibration < "
            "infinity."
        )
