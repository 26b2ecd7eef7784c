"""From what is read at each token to what is known of each step.

Of the step, and of the solution up to its end: how probable its tokens were and how sure the policy
was, and the mean of each feature; and each feature at the last token of the step, at its least
probable token, where a slip shows first, and at the token behind it, where the policy has seen it.

Shapes: N solutions, L tokens, K steps, B = K + 1 bounds of steps, F features.
"""

from typing import Final

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

ENTROPY: Final = 0  # of the law from which a token is drawn, in nats
TOP: Final = 1  # the log-probability of its most probable token
NUM_SURPRISES: Final = 2  # the first features of each token

POOLS: Final = ("mean", "last", "mean so far", "least probable", "behind the least probable")
"""The ways in which hidden states are pooled over a step."""

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
) -> tuple[Float[Tensor, "N K S"], Float[Tensor, "N K pools H"]]:
    """Return what is known of each step.

    Args:
        features: what was read at each token: the two surprises, then H projected hidden states.
        log_probs: of the tokens at temperature 1.
        bounds: the number of tokens before the first step, and up to the end of each step.
        counted: which of the steps there are.

    Returns:
        The S numbers of `NAMES`; and the mean of the hidden states over the step, their last ones,
        their mean over all tokens so far, those at the least probable token of the step (the first
        of them), and those at the token behind it, or at the last one of the step.
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
    of_all = extremes.new_zeros((num_rows, num_steps + 2, 3)).scatter_reduce(
        1, owners[..., None].expand_as(extremes), extremes, "amax"
    )
    worst = of_all[:, 1:-1]
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
    is_least = extremes[..., 0] == of_all[..., 0].gather(1, owners)
    least = places.new_full(of_all.shape[:2], log_probs.shape[1]).scatter_reduce(
        1, owners, places.masked_fill(~is_least, log_probs.shape[1]), "amin"
    )[:, 1:-1]
    at_end = ends - 1
    at = [_at(hidden, where) for where in (at_end, least, torch.minimum(least + 1, at_end))]
    states = [(sums - sums_before) / sizes, at[0], sums / so_far, at[1], at[2]]
    return torch.stack(known, dim=-1), torch.stack(states, dim=2)


def _at(values: Float[Tensor, "N L C"], places: Int[Tensor, "N K"]) -> Float[Tensor, "N K C"]:
    """Return the values at these places; those of steps that there are not are of no meaning."""
    inside = places.clamp(min=0, max=values.shape[1] - 1)
    return values.gather(1, inside[..., None].expand(-1, -1, values.shape[2]))


def _sums(values: Float[Tensor, "N L C"], ends: Int[Tensor, "N K"]) -> Float[Tensor, "N K C"]:
    """Return the sums over the first `ends` tokens."""
    sums = torch.nn.functional.pad(values.cumsum(1), (0, 0, 1, 0))
    return sums.gather(1, ends[..., None].expand(-1, -1, values.shape[2]))
