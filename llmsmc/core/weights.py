r"""Arithmetic of log-weights: pure functions that never change their arguments.

Log-weights $\log w^n$ are unnormalised, of type float64 and on the CPU. The normalised weights
$W^n = w^n / \sum_m w^m$ are a view that is derived when it is needed. A weight of zero is
`-inf`; NaN and `+inf` are errors.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.errors import DegenerateWeightsError, InputError, NumericalError

LogWeights = Float64[Tensor, " N"]


def on_host(values: Tensor) -> Tensor:
    """Return `values` as float64 on the CPU, without gradient."""
    if values.dtype == torch.float64 and values.device.type == "cpu" and not values.requires_grad:
        return values
    return values.detach().to(device="cpu", dtype=torch.float64)


def as_log_weights(values: Tensor | Sequence[float] | Any) -> LogWeights:
    """Return `values` as float64 log-weights on the CPU.

    Raises:
        InputError: the values are not a vector of at least one number.
        NumericalError: one of the values is NaN or `+inf`.
    """
    return _checked(values)[0]


def _checked(values: Tensor | Sequence[float] | Any) -> tuple[LogWeights, float]:
    """Return the log-weights and the largest of them."""
    log_weights = on_host(torch.as_tensor(values))
    if log_weights.dim() != 1 or log_weights.shape[0] == 0:
        shape = tuple(log_weights.shape)
        raise InputError(f"Log-weights are a vector [N]. Got shape {shape}; accepted: N >= 1.")
    # The maximum alone decides: it is NaN or +inf if any value is.
    largest = float(log_weights.max())
    if not largest < math.inf:
        bad = int((log_weights.isnan() | (log_weights == math.inf)).nonzero()[0])
        raise NumericalError(
            f"Log-weight of particle {bad} is {float(log_weights[bad])}; accepted: any number "
            "below +inf, and -inf for a weight of zero."
        )
    return log_weights, largest


def uniform(num_particles: int) -> LogWeights:
    """Return N equal log-weights of total mass one, `-log N` each.

    >>> uniform(4).exp()
    tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)
    """
    return torch.full((num_particles,), -math.log(num_particles), dtype=torch.float64)


class Weights:
    """Log-weights, and what resampling and a step's record need of them.

    Attributes:
        log_weights: the log-weights, checked and on the CPU.
        scaled: the weights divided by the largest of them: linear, in [0, 1], safe from overflow;
            ones if all weights are zero.
        log_evidence: the log of the sum of the weights; `-inf` if all weights are zero.
        max_weight: the largest normalised weight; 0.0 if all weights are zero.
    """

    def __init__(self, log_weights: LogWeights) -> None:
        """Check the log-weights, and compute the weights in one pass of the exponential function.

        Raises:
            InputError: the values are not a vector of at least one number.
            NumericalError: one of the values is NaN or `+inf`.
        """
        self.log_weights, log_largest = _checked(log_weights)
        if log_largest == -math.inf:
            self.scaled = torch.ones_like(self.log_weights)
            self.log_evidence, self.max_weight = -math.inf, 0.0
            return
        self.scaled = (self.log_weights - log_largest).exp_()
        total = float(self.scaled.sum())
        self.log_evidence, self.max_weight, self._total = (
            log_largest + math.log(total),
            1 / total,
            total,
        )

    @cached_property
    def effective_sample_size(self) -> float:
        """The effective sample size; see the function of that name."""
        if self.max_weight == 0.0:
            return 0.0
        size = self._total**2 / float(self.scaled.dot(self.scaled))
        return min(max(size, 1.0), float(self.log_weights.shape[0]))


def scaled(log_weights: LogWeights) -> LogWeights:
    """Return the weights divided by the largest of them: linear, in [0, 1], safe from overflow.

    Raises:
        DegenerateWeightsError: all weights are zero.
    """
    weights = Weights(log_weights)
    if weights.max_weight == 0.0:
        raise DegenerateWeightsError(f"All {len(log_weights)} weights are zero.")
    return weights.scaled


def normalize(log_weights: LogWeights) -> LogWeights:
    r"""Return the probabilities $W^n = w^n / \sum_m w^m$.

    Raises:
        DegenerateWeightsError: all weights are zero.
    """
    weights = scaled(log_weights)
    return weights / weights.sum()


def log_evidence(log_weights: LogWeights) -> float:
    r"""Return $\log \sum_n w^n$; `-inf` if all weights are zero.

    Carried log-weights that start at `-log N` and are never renormalised make this the
    log-evidence at all times.
    """
    return float(as_log_weights(log_weights).logsumexp(0))


def effective_sample_size(log_weights: LogWeights) -> float:
    r"""Return $(\sum_n w^n)^2 / \sum_n (w^n)^2$, between 1 and N; 0.0 if all weights are zero.

    >>> effective_sample_size(as_log_weights([0.0, 0.0, -float("inf")]))
    2.0
    """
    return Weights(log_weights).effective_sample_size


def effective_sample_sizes(log_weights: Float64[Tensor, "K N"]) -> Float64[Tensor, " K"]:
    """Return the effective sample size of each of K populations."""
    weights = scaled_rows(log_weights)
    sizes = weights.sum(1) ** 2 / weights.square().sum(1)
    alive = log_weights.amax(1) > -math.inf
    return torch.where(alive, sizes.clamp(1.0, float(log_weights.shape[1])), 0.0)


def scaled_rows(log_weights: Float64[Tensor, "K N"]) -> Float64[Tensor, "K N"]:
    """Return each row of weights divided by its largest weight; ones where all are zero."""
    largest = log_weights.amax(1, keepdim=True)
    return torch.where(largest > -math.inf, (log_weights - largest).exp(), 1.0)


def temper(log_weights: LogWeights, inverse_temperature: float) -> LogWeights:
    """Return the log-weights of `w ** inverse_temperature`; a weight of zero stays zero.

    Raises:
        InputError: the inverse temperature is not a finite number >= 0.
    """
    if not 0 <= inverse_temperature < math.inf:
        raise InputError(
            f"inverse_temperature is an exponent. Got {inverse_temperature!r}; accepted: any "
            "finite number >= 0."
        )
    log_weights = as_log_weights(log_weights)
    return torch.where(log_weights > -math.inf, log_weights * inverse_temperature, -math.inf)
