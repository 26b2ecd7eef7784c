"""From what is read at each token to what is known of each step.

Of the step, and of the solution up to its end: how probable its tokens were and how sure the policy
was, and the mean of each feature; and each feature at the last token of the step.

Shapes: N solutions, L tokens, K steps, B = K + 1 bounds of steps, F features.
"""

from typing import Final

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

ENTROPY: Final = 0  # of the law from which a token is drawn, in nats
TOP: Final = 1  # the log-probability of its most probable token
NUM_SURPRISES: Final = 2  # the first features of each token

NAMES: Final = (
    "log-probability",
    "mean log-probability",
    "least log-probability",
    "mean entropy",
    "largest entropy",
    "mean gap to the most probable token",
    "largest gap",
    "log of the number of tokens",
    "log of the number of the step",
    "mean log-probability so far",
    "least log-probability so far",
    "mean entropy so far",
    "largest entropy so far",
    "log of the number of tokens so far",
)
"""What is known of a step without the hidden states."""


def pooled(
    features: Float[Tensor, "N L F"],
    log_probs: Float64[Tensor, "N L"],
    bounds: Int[Tensor, "N B"],
    counted: Bool[Tensor, "N K"],
) -> tuple[Float[Tensor, "N K S"], Float[Tensor, "N K 3 H"]]:
    """Return what is known of each step.

    Args:
        features: what was read at each token: the two surprises, then H projected hidden states.
        log_probs: of the tokens at temperature 1.
        bounds: the number of tokens before the first step, and up to the end of each step.
        counted: which of the steps there are.

    Returns:
        The S numbers of `NAMES`; and the mean of the hidden states over the step, their last ones,
        and their mean over all tokens so far.
    """
    num_rows, num_steps = counted.shape
    starts, ends = bounds[:, :-1].where(counted, 0), bounds[:, 1:].where(counted, 0)
    sizes = (ends - starts).clamp(min=1)[..., None]
    so_far = ends.clamp(min=1)[..., None]
    told = log_probs.float()
    entropy, gap = features[..., ENTROPY], features[..., TOP] - told
    scalars = torch.stack([told, entropy, gap], dim=-1)
    sums, sums_before = _sums(scalars, ends), _sums(scalars, starts)
    means, means_so_far = (sums - sums_before) / sizes, sums / so_far
    # The number of the step of each token: 0 before the first, and one more behind the last.
    places = torch.arange(log_probs.shape[1]).expand(num_rows, -1).contiguous()
    behind = torch.nn.functional.pad(~counted, (1, 0))
    limits = bounds.masked_fill(behind, log_probs.shape[1] + 1).contiguous()
    owners = torch.searchsorted(limits, places, right=True)
    extremes = torch.stack([-told, entropy, gap], dim=-1)
    worst = extremes.new_zeros((num_rows, num_steps + 2, 3)).scatter_reduce(
        1, owners[..., None].expand_as(extremes), extremes, "amax"
    )[:, 1:-1]
    worst_so_far = worst.cummax(1).values
    numbers = torch.arange(1, num_steps + 1).expand(num_rows, -1)
    known = [
        (sums - sums_before)[..., 0],
        means[..., 0],
        -worst[..., 0],
        means[..., 1],
        worst[..., 1],
        means[..., 2],
        worst[..., 2],
        sizes[..., 0].log(),
        numbers.log(),
        means_so_far[..., 0],
        -worst_so_far[..., 0],
        means_so_far[..., 1],
        worst_so_far[..., 1],
        so_far[..., 0].log(),
    ]
    hidden = features[..., NUM_SURPRISES:]
    sums, sums_before = _sums(hidden, ends), _sums(hidden, starts)
    last = hidden.gather(1, (ends - 1).clamp(min=0)[..., None].expand(-1, -1, hidden.shape[2]))
    states = [(sums - sums_before) / sizes, last, sums / so_far]
    return torch.stack(known, dim=-1), torch.stack(states, dim=2)


def _sums(values: Float[Tensor, "N L C"], ends: Int[Tensor, "N K"]) -> Float[Tensor, "N K C"]:
    """Return the sums over the first `ends` tokens."""
    sums = torch.nn.functional.pad(values.cumsum(1), (0, 0, 1, 0))
    return sums.gather(1, ends[..., None].expand(-1, -1, values.shape[2]))
