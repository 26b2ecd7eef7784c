r"""Ancestry of particles, and estimates of variance from the genealogy of a single run.

`ancestors[t][n]` is the index, among the particles of step t-1, of the parent of particle n of
step t. With $E_n$ the index of particle n's ancestor at some earlier step and
$\bar\varphi = \sum_n W^n \varphi^n$,

$$S(\varphi) = \sum_j \Bigl( \sum_{n : E_n = j} W^n (\varphi^n - \bar\varphi) \Bigr)^2$$

estimates the variance of $\bar\varphi$. With $S_1 = \sum_j (\sum_{n : E_n = j} W^n)^2$ over the
families of the first step, and k - 1 resamplings since,

$$\hat V = 1 - \Bigl(\frac{N}{N - 1}\Bigr)^k (1 - S_1)$$

estimates the relative variance of the evidence, which is the variance of its logarithm where that
is small: $\mathbb{E}[\hat Z^2 \hat V]$ is the variance of $\hat Z$, for multinomial resampling.

**Where equal particles are merged**, families blur, and one particle may stand for many draws. Let
particle n of step t stand for $c_n$ draws, $D_n = \sum W (\varphi - \bar\varphi)$ be the sum over
its descendants at the end, and $U_n$ the sum of the squares that its draws would have, if each of
its children had chosen one of them at random,

$$U_n = \frac{D_n^2}{c_n} + \Bigl(1 - \frac{1}{c_n}\Bigr) \sum_{m \text{ child of } n} U_m.$$

Draws that branch together share a fixed number of offspring, $N_g$ for the group g of the particles
of one state (or, for multinomial resampling, of all particles). They are therefore negatively
correlated, with a covariance $-D_i D_j / N_g$ for each pair. Hence

$$V = \sum_n U^0_n - \frac{(\sum_n D^0_n)^2 - \sum_n U^0_n}{N - 1} - \sum_t \sum_{g}
\frac{1}{N_g} \Bigl[ \Bigl(\sum_{n \in g} D^t_n\Bigr)^2 - \sum_{n \in g} U^t_n \Bigr],$$

which is S with the factor N / (N - 1) where nothing is merged. With $\varphi - \bar\varphi = 1$
it is the relative variance of the evidence.

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

from llmsmc.core.history import Merged


def lineages(ancestors: Sequence[Int64[Tensor, " _"]]) -> Int64[Tensor, "T N"]:
    """Return, for each step, the index of the ancestor of each final particle at that step."""
    return torch.stack(list(_backwards(ancestors))[::-1])


def num_surviving(ancestors: Sequence[Int64[Tensor, " _"]]) -> list[int]:
    """Return how many particles of each step have descendants at the end."""
    return [len(roots.unique()) for roots in lineages(ancestors)]


def variance_of_mean(
    probabilities: Float64[Tensor, " N"],
    values: Float64[Tensor, "N K"],
    roots: Int64[Tensor, " N"],
) -> Float64[Tensor, " K"]:
    """Return S for K functions at once; `values` of particles of weight zero do not count."""
    weights = probabilities[:, None]
    weighted = torch.where(weights > 0, weights * values, 0.0)
    centred = weighted - weights * weighted.sum(0)
    families = torch.zeros(int(roots.max()) + 1, values.shape[1], dtype=values.dtype)
    return families.index_add(0, roots, centred).square().sum(0)


def variance_of_mean_over_lags(
    probabilities: Float64[Tensor, " N"],
    values: Float64[Tensor, "N K"],
    ancestors: Sequence[Int64[Tensor, " _"]],
) -> Float64[Tensor, " K"]:
    """Return the largest S over all earlier steps at which to divide the particles into families.

    At the first step this is the estimator of Chan and Lai; it is void once all particles share one
    ancestor at that step. Later steps (the fixed lags of Olsson and Douc) miss the randomness
    before them. Both errors make the estimate too small, hence the maximum.
    """
    largest = torch.zeros(values.shape[1], dtype=values.dtype)
    last = None
    for roots in _backwards(ancestors):
        if last is not None and torch.equal(roots, last):
            continue
        if len(roots) > 1 and bool((roots == roots[0]).all()):
            break
        largest = largest.maximum(variance_of_mean(probabilities, values, roots))
        last = roots
    return largest


def variance_after_merging(
    contributions: Float64[Tensor, "N K"],
    ancestors: Sequence[Int64[Tensor, " _"]],
    merged: Sequence[Merged],
) -> Float64[Tensor, "T K"]:
    """Return V, and below it the variance that is left once the first t steps are given.

    Args:
        contributions: W (phi - mean) of each final particle, or W for the evidence.
        ancestors: of the particles of each step.
        merged: what each step has merged.
    """
    sums, squares = contributions, contributions.square() / _column(merged[-1].multiplicities)
    shared, rows = torch.zeros_like(contributions[0]), list[Tensor]()
    for t in range(len(ancestors) - 1, 0, -1):
        parents, before = ancestors[t], merged[t - 1]
        groups = before.kinds if before.branches_evenly else torch.zeros_like(before.kinds)
        mine = groups[parents]
        size = int(groups.max()) + 1
        offspring = _column(mine.bincount(merged[t].multiplicities, minlength=size).long())
        # The draws of a group are those of one distribution, given the step before.
        pairs = _pairs(sums, squares, mine, size)
        rows.append(squares.sum(0) - (pairs / offspring.clamp(min=1)).sum(0) - shared)
        counts = _column(before.multiplicities)
        sums = _grouped(sums, parents, len(counts))
        squares = sums.square() / counts + (1 - 1 / counts) * _grouped(
            squares, parents, len(counts)
        )
        pairs = _pairs(sums, squares, groups, size)
        shared = shared + torch.where(offspring > 0, pairs / offspring.clamp(min=1), 0.0).sum(0)
    num_draws = int(merged[0].multiplicities.sum())
    total = squares.sum(0)
    rows.append(total - (sums.sum(0).square() - total) / max(num_draws - 1, 1) - shared)
    return torch.stack(rows[::-1])


def variance_of_mean_after_merging(
    probabilities: Float64[Tensor, " N"],
    values: Float64[Tensor, "N K"],
    ancestors: Sequence[Int64[Tensor, " _"]],
    merged: Sequence[Merged],
    max_weights: Sequence[float],
) -> Float64[Tensor, " K"]:
    """Return the largest V over all numbers of first steps that are given.

    The maximum has the reasons given in `variance_of_mean_over_lags`. The result is NaN where the
    genealogy tells nothing: where V is zero although the values differ; and, for equal values,
    where some step has particles of one state with different parents, and all particles share an
    ancestor that was not the only particle of its step with a weight. The values may then belong to
    a step of which a single state is left.

    Args:
        probabilities: of the final particles.
        values: of K functions at them; those of particles of weight zero do not count.
        ancestors: of the particles of each step.
        merged: what each step has merged.
        max_weights: the largest normalised weight of each step.
    """
    weights = probabilities[:, None]
    weighted = torch.where(weights > 0, weights * values, 0.0)
    centred = weighted - weights * weighted.sum(0)
    variance = variance_after_merging(centred, ancestors, merged).amax(0)
    alive = values[probabilities > 0]
    constant = (alive == alive[0]).all(0)
    met = any(len(step.kinds) > int(step.kinds.max()) + 1 for step in merged)
    is_void = met and any(
        bool((row == row[0]).all()) and not math.isclose(max_weight, 1)
        for row, max_weight in zip(_backwards(ancestors), reversed(max_weights), strict=True)
    )
    known = torch.where(constant, not is_void, variance > 0)
    return torch.where(known, torch.where(constant, 0.0, variance), math.nan)


def relative_variance_of_evidence_after_merging(
    probabilities: Float64[Tensor, " N"],
    ancestors: Sequence[Int64[Tensor, " _"]],
    merged: Sequence[Merged],
) -> float:
    """Return V for the evidence, which may be below zero; NaN where it is void."""
    roots = lineages(ancestors)[0]
    if bool((roots == roots[0]).all()) and int(merged[0].multiplicities[roots[0]]) == 1:
        return math.nan
    return float(variance_after_merging(probabilities[:, None], ancestors, merged)[0, 0])


def variance_between_batches(
    probabilities: Float64[Tensor, " N"],
    values: Float64[Tensor, "N K"],
    batches: Int64[Tensor, " N"],
) -> Float64[Tensor, " K"]:
    """Return the variance of the mean, estimated from the batch means of Markov chains.

    This is S over A batches, times A / (A - 1), since the mean is estimated as well; zero for A =
    1.
    """
    count = int(batches.max()) + 1
    return variance_of_mean(probabilities, values, batches) * count / max(count - 1, 1)


def batches_of(num_states: int) -> Int64[Tensor, " M"]:
    """Return the batch of each of M successive states of a chain: sqrt(M) batches of sqrt(M).

    Reference: Flegal, Jones (2010). Batch means and spectral variance estimators in MCMC.
    """
    return torch.arange(num_states) // math.ceil(math.sqrt(num_states))


def effective_sample_size_of_chain(values: Float64[Tensor, "M D"]) -> float:
    r"""Return the smallest effective sample size of D numbers along a chain of M states.

    $$\frac{M}{-1 + 2 \sum_{k \ge 0} \Gamma_k}, \qquad \Gamma_k = \rho_{2k} + \rho_{2k+1},$$

    with the autocorrelations $\rho$ of the chain, summed as long as $\Gamma_k$ is above zero, and
    at most M. A number that never changes counts as one state.

    Reference: Geyer (1992). Practical Markov chain Monte Carlo: the initial positive sequence.
    """
    length = len(values)
    centred = values - values.mean(0)
    is_still = (values == values[0]).all(0)
    if length < 4 or bool(is_still.any()):
        return 1.0 if bool(is_still.any()) else float(length)
    spectrum = torch.fft.rfft(centred, n=2 * length, dim=0).abs().square()
    covariances = torch.fft.irfft(spectrum, dim=0)[: length // 2 * 2]
    correlations = covariances / covariances[0]
    pairs = correlations[::2] + correlations[1::2]
    counts = (pairs > 0).cumprod(0)
    # The pairs cannot grow where the chain is reversible: what grows is noise.
    times = -1 + 2 * (counts * pairs.cummin(0).values).sum(0)
    return float((length / times.clamp(min=1)).min())


def relative_variance_of_evidence_of_islands(
    probabilities: Float64[Tensor, " N"], num_islands: int
) -> float:
    r"""Return the relative variance of the mean of the evidences of K > 1 independent islands.

    With the share $s_k$ of island k in the weights this is $\frac{K}{K - 1} \sum_k (s_k - 1/K)^2$.
    """
    shares = probabilities.reshape(num_islands, -1).sum(1)
    return float((shares - 1 / num_islands).square().sum()) * num_islands / (num_islands - 1)


def relative_variance_of_evidence(
    probabilities: Float64[Tensor, " N"],
    ancestors: Sequence[Int64[Tensor, " _"]],
    num_resamplings: int,
) -> float:
    """Return V, which may be below zero; NaN where it is void.

    V is void for a single particle, and where all particles share one ancestor.
    """
    size, roots = len(probabilities), lineages(ancestors)[0]
    if size == 1 or bool((roots == roots[0]).all()):
        return math.nan
    shares = torch.zeros(size, dtype=torch.float64).index_add(0, roots, probabilities)
    remainder = 1 - float(shares.square().sum())
    return 1 - (size / (size - 1)) ** (num_resamplings + 1) * remainder


def _backwards(ancestors: Sequence[Int64[Tensor, " _"]]) -> Iterator[Int64[Tensor, " N"]]:
    """Yield the ancestors of the final particles at the last step, the step before it, ..."""
    roots = torch.arange(len(ancestors[-1]))
    yield roots
    for parents in reversed(ancestors[1:]):
        roots = parents[roots]
        yield roots


def _column(counts: Int64[Tensor, " N"]) -> Float64[Tensor, "N 1"]:
    return counts.double()[:, None]


def _grouped(
    rows: Float64[Tensor, "N K"], groups: Int64[Tensor, " N"], size: int
) -> Float64[Tensor, "G K"]:
    """Return the sum of the rows of each group."""
    return rows.new_zeros(size, rows.shape[1]).index_add(0, groups, rows)


def _pairs(
    sums: Float64[Tensor, "N K"],
    squares: Float64[Tensor, "N K"],
    groups: Int64[Tensor, " N"],
    size: int,
) -> Float64[Tensor, "G K"]:
    """Return the sum over the pairs of different draws of each group."""
    return _grouped(sums, groups, size).square() - _grouped(squares, groups, size)
