r"""Optimal resampling: fewer particles, all distinct, with unequal weights.

With c such that $\sum_n \min(c \, w^n, 1) = M$, a particle with $c \, w^n \ge 1$ is kept with its
weight; the others share the remaining places, by systematic resampling, and have weight 1 / c each.
Of all unbiased schemes without duplicates this scheme changes the weights least.

Reference: Fearnhead, Clifford (2003). On-line inference for hidden Markov models via particle
filters, section 3.2 and appendix B.
"""

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.core.weights import scaled
from llmsmc.errors import InputError
from llmsmc.inference.resampling.scheme import Resampled, Scheme, inverse_cdf_of_strata, uniforms


def optimal_single(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    """Keep M distinct particles; if at most M are alive, keep these unchanged."""
    weights = scaled(log_weights)
    size = num_offspring or len(weights)
    if size > len(weights):
        raise InputError(
            "The offspring are distinct. Got num_offspring="
            f"{num_offspring} for {len(weights)} particles; accepted: at most {len(weights)}."
        )
    alive = weights.nonzero().squeeze(1)
    if len(alive) <= size:
        kept = torch.cat([alive, (weights == 0).nonzero().squeeze(1)[: size - len(alive)]])
        kept = kept.sort().values
        return Resampled(kept, log_weights[kept])
    num_kept, scale = threshold(weights, size)
    order = weights.argsort(descending=True, stable=True)
    kept, others = order[:num_kept], order[num_kept:].sort().values
    offsets = uniforms(1, generator).expand(size - num_kept)
    drawn = others[inverse_cdf_of_strata(weights[others], offsets)]
    share = log_weights.max() - torch.tensor(scale, dtype=torch.float64).log()
    ancestors = torch.cat([kept, drawn])
    carried = torch.cat([log_weights[kept], share.expand(len(drawn))])
    order = ancestors.argsort()
    return Resampled(ancestors[order], carried[order])


def threshold(weights: Float64[Tensor, " N"], size: int) -> tuple[int, float]:
    r"""Return how many particles are kept, and c: $\sum_n \min(c \, w^n, 1) = M$, for M < N.

    With the weights in decreasing order $s_1 \ge s_2 \ge \dots$ it is the smallest k such that
    $c = (M - k) / \sum_{n > k} s_n$ has $c \, s_{k+1} \le 1$.
    """
    ordered = weights.sort(descending=True).values
    below = ordered.flip(0).cumsum(0).flip(0)[:size]  # the sums over n > k, k = 0..M-1
    places = size - torch.arange(size, dtype=torch.float64)
    num_kept = int((places * ordered[:size] <= below).nonzero()[0])  # the last one always is
    return num_kept, float(places[num_kept] / below[num_kept])


optimal = Scheme("optimal", single=optimal_single)
"""Keep M distinct particles; all that are alive, as they are, if they are no more than M."""
