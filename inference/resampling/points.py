"""Points on the line of the weights: which particles they hit."""

import math

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor


def uniforms(shape: int | tuple[int, ...], generator: Generator) -> Float64[Tensor, "..."]:
    """Draw from [0, 1); consumes `generator`."""
    device = generator.device
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=device).cpu()


def inverse_cdf(
    weights: Float64[Tensor, "*K N"], points: Float64[Tensor, "*K M"]
) -> Int64[Tensor, "*K M"]:
    """Return, for each u in [0, 1), the smallest j with w_0 + ... + w_j > u (w_0 + ... + w_N-1).

    The comparison is strict, so that u = 0 does not hit a leading weight of zero; u so close to
    one that the product rounds up to the total gets the last positive weight.
    """
    cumulative = weights.cumsum(-1)
    indices = torch.searchsorted(cumulative, points * cumulative[..., -1:], right=True)
    return torch.minimum(indices, _last_positive(weights))


def inverse_cdf_of_strata(
    weights: Float64[Tensor, "*K N"], offsets: Float64[Tensor, "*K M"]
) -> Int64[Tensor, "*K M"]:
    r"""Return `inverse_cdf` at the M points (i + offset_i) / M, i = 0..M-1, offsets in [0, 1).

    Counts the points below each value of the distribution function instead of looking each of
    them up: with $x = M (w_0 + \dots + w_j) / (w_0 + \dots + w_{N-1})$, point i is below if
    $i + u_i < x$; these are the points $i < \lfloor x \rfloor$, and $i = \lfloor x \rfloor$ if
    its offset is below the fraction $x - \lfloor x \rfloor$. No i + u_i is ever rounded.
    """
    size = offsets.shape[-1]
    expected = _expected_below(weights, size)
    whole = np.floor(np.minimum(expected, size, out=expected))
    fraction, num_below = expected - whole, whole.astype(np.int64)
    own = np.take_along_axis(offsets.numpy(), np.minimum(num_below, size - 1), -1)
    num_below += fraction > own
    return hit(_complete(num_below, weights, size), size)


# On vectors of a few thousand the calls of numpy cost a fraction of those of torch, and no sum is
# taken but by torch: the numbers are the same.

Counts = npt.NDArray[np.int64]


def num_below_spaced(
    weights: Float64[Tensor, "*K N"], offsets: npt.NDArray[np.float64], size: int
) -> Counts:
    """Count the points i + u, i = 0..M-1, below each value of the distribution function.

    With offsets that are multiples of the spacing of the numbers near M, no difference is rounded.
    """
    expected = _expected_below(weights, size)
    expected -= offsets - offsets % math.ulp(size)
    return _complete(np.ceil(expected, out=expected).astype(np.int64), weights, size)


def _expected_below(weights: Float64[Tensor, "*K N"], size: int) -> npt.NDArray[np.float64]:
    """Return the distribution function at each particle, times the number of points."""
    cumulative: npt.NDArray[np.float64] = weights.cumsum(-1).numpy()
    cumulative *= size / cumulative[..., -1:]
    return cumulative


def _complete(num_below: Counts, weights: Float64[Tensor, "*K N"], size: int) -> Counts:
    """From the last positive weight on let all points be below, where rounding missed one."""
    if (num_below[..., -1] != size).any():
        np.minimum(num_below, size, out=num_below)
        num_below[np.arange(weights.shape[-1]) >= _last_positive(weights).numpy()] = size
    return num_below


def hit(num_below: Counts, size: int) -> Int64[Tensor, "*K M"]:
    """Return for each of M points the particle that it hits: how many counts do not exceed it."""
    if num_below.ndim == 1:
        return torch.from_numpy(np.bincount(num_below, minlength=size + 1)[:size].cumsum())
    *shape, length = num_below.shape
    num_rows = math.prod(shape)
    shifts = np.arange(num_rows).reshape(*shape, 1) * (size + 1)
    found = np.bincount((num_below + shifts).reshape(-1), minlength=num_rows * (size + 1))
    return torch.from_numpy(found).view(*shape, size + 1).cumsum_(-1)[..., :size]


def _last_positive(weights: Float64[Tensor, "*K N"]) -> Int64[Tensor, "*K 1"]:
    places = torch.arange(weights.shape[-1])
    return torch.where(weights > 0, places, -1).amax(-1, keepdim=True)
