r"""Who descends from whom, and the variance that this reveals in a single run.

`ancestors[t][n]` is the index, among the particles of step t-1, of the parent of particle n of
step t. With $E_n$ the index of particle n's forefather at some earlier step and
$\bar\varphi = \sum_n W^n \varphi^n$,

$$S(\varphi) = \sum_j \Bigl( \sum_{n : E_n = j} W^n (\varphi^n - \bar\varphi) \Bigr)^2$$

estimates the variance of $\bar\varphi$. With $S_1 = \sum_j (\sum_{n : E_n = j} W^n)^2$ over the
families of the first step, and k - 1 resamplings since,

$$\hat V = 1 - \Bigl(\frac{N}{N - 1}\Bigr)^k (1 - S_1)$$

estimates the relative variance of the evidence, which is the variance of its logarithm where that
is small: $\mathbb{E}[\hat Z^2 \hat V]$ is the variance of $\hat Z$, for multinomial resampling.

References:
    1. Chan, Lai (2013). A general theory of particle filters in hidden Markov models.
    2. Olsson, Douc (2019). Numerically stable online estimation of variance in particle filters.
    3. Lee, Whiteley (2018). Variance estimation in the particle filter.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def lineages(ancestors: Sequence[Int64[Tensor, " _"]]) -> Int64[Tensor, "T N"]:
    """Return, for each step, the index there of the forefather of each final particle."""
    return torch.stack(list(_backwards(ancestors))[::-1])


def num_surviving(ancestors: Sequence[Int64[Tensor, " _"]]) -> list[int]:
    """Return how many particles of each step have descendants at the end."""
    return [len(forefathers.unique()) for forefathers in lineages(ancestors)]


def variance_of_mean(
    probabilities: Float64[Tensor, " N"],
    values: Float64[Tensor, "N K"],
    forefathers: Int64[Tensor, " N"],
) -> Float64[Tensor, " K"]:
    """Return S for K functions at once; `values` of particles of weight zero do not count."""
    weights = probabilities[:, None]
    weighted = torch.where(weights > 0, weights * values, 0.0)
    centred = weighted - weights * weighted.sum(0)
    families = torch.zeros(int(forefathers.max()) + 1, values.shape[1], dtype=values.dtype)
    return families.index_add(0, forefathers, centred).square().sum(0)


def variance_of_mean_over_lags(
    probabilities: Float64[Tensor, " N"],
    values: Float64[Tensor, "N K"],
    ancestors: Sequence[Int64[Tensor, " _"]],
) -> Float64[Tensor, " K"]:
    """Return the largest S over all earlier steps at which to divide the particles into families.

    At the first step this is the estimator of Chan and Lai; it is void once all particles share
    one forefather there. Later steps, the fixed lags of Olsson and Douc, miss the randomness
    before them. Both errors are downwards, hence the maximum.
    """
    largest = torch.zeros(values.shape[1], dtype=values.dtype)
    last = None
    for forefathers in _backwards(ancestors):
        if last is not None and torch.equal(forefathers, last):
            continue
        if len(forefathers) > 1 and bool((forefathers == forefathers[0]).all()):
            break
        largest = largest.maximum(variance_of_mean(probabilities, values, forefathers))
        last = forefathers
    return largest


def variance_between_batches(
    probabilities: Float64[Tensor, " N"],
    values: Float64[Tensor, "N K"],
    batches: Int64[Tensor, " N"],
) -> Float64[Tensor, " K"]:
    """Return the variance of the mean that the batch means of Markov chains reveal.

    It is S over A batches, times A / (A - 1) for the mean that is estimated too; zero for A = 1.
    """
    count = int(batches.max()) + 1
    return variance_of_mean(probabilities, values, batches) * count / max(count - 1, 1)


def batches_of(num_states: int) -> Int64[Tensor, " M"]:
    """Return in which batch each of M successive states of a chain is: sqrt(M) batches of sqrt(M).

    Reference: Flegal, Jones (2010). Batch means and spectral variance estimators in MCMC.
    """
    return torch.arange(num_states) // math.ceil(math.sqrt(num_states))


def relative_variance_of_evidence(
    probabilities: Float64[Tensor, " N"],
    ancestors: Sequence[Int64[Tensor, " _"]],
    num_resamplings: int,
) -> float:
    """Return V, which may be below zero; NaN where it is void.

    It is for a single particle, and where all have one forefather, of whom nothing can be learned.
    """
    size, roots = len(probabilities), lineages(ancestors)[0]
    if size == 1 or bool((roots == roots[0]).all()):
        return math.nan
    shares = torch.zeros(size, dtype=torch.float64).index_add(0, roots, probabilities)
    remainder = 1 - float(shares.square().sum())
    return 1 - (size / (size - 1)) ** (num_resamplings + 1) * remainder


def _backwards(ancestors: Sequence[Int64[Tensor, " _"]]) -> Iterator[Int64[Tensor, " N"]]:
    """Yield the forefathers of the final particles at the last step, the one before, ..."""
    forefathers = torch.arange(len(ancestors[-1]))
    yield forefathers
    for parents in reversed(ancestors[1:]):
        forefathers = parents[forefathers]
        yield forefathers
