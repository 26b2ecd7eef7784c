"""Drawing a token from each row of a language model's law, by inversion.

Up to `MAX_WHOLE` words, probabilities and their sums are in double precision. Beyond, where a row
is memory that takes time to walk through, probabilities are the softmax in single precision, as
every log-probability is, and so are their sums over blocks; only the sums of blocks, and the words
of the block in which a token falls, are added up in double precision.

Shapes: R rows, A tokens, V vocabulary.
"""

from typing import Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

MAX_WHOLE: Final = 2**13
_BLOCK: Final = 512


def draw(
    logits: Float[Tensor, "R V"], uniforms: Float64[Tensor, " A"], rows: Int[Tensor, " A"]
) -> tuple[Int[Tensor, " A"], Float64[Tensor, " A"]]:
    """Return a token for each uniform number, drawn from the softmax of its row, and its log."""
    if logits.shape[-1] <= MAX_WHOLE:
        log_probs = logits.log_softmax(-1)
        ids = invert(log_probs, uniforms, rows)
        return ids, log_probs[rows, ids].double()
    probabilities = logits.softmax(-1)
    ids = _invert_by_blocks(probabilities, uniforms, rows)
    return ids, probabilities[rows, ids].log().double()


def invert(
    log_probs: Float[Tensor, "R V"], uniforms: Float64[Tensor, " A"], rows: Int[Tensor, " A"]
) -> Int[Tensor, " A"]:
    """Return the smallest index whose cumulative probability exceeds u, for each u in its row.

    Strictly exceeds, so that a first class of probability zero is not drawn at u = 0; and never
    beyond the last class of positive probability, when rounding takes u times the total to the
    total.
    """
    if log_probs.shape[-1] > MAX_WHOLE:
        return _invert_by_blocks(log_probs.exp(), uniforms, rows)
    cumulative = log_probs.double().exp().cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    # How many of the same row come before each.
    order = rows.argsort(stable=True)
    ordered, numbers = rows[order], torch.arange(len(rows), device=rows.device)
    place = torch.empty_like(rows)
    place[order] = numbers - torch.searchsorted(ordered, ordered)
    table = uniforms.new_zeros((len(log_probs), int(place.max()) + 1))
    table[rows, place] = uniforms
    index = torch.searchsorted(cumulative, table * total, right=True)
    last = torch.searchsorted(cumulative, total, right=False)
    chosen: Tensor = torch.minimum(index, last).clamp(max=log_probs.shape[-1] - 1)[rows, place]
    return chosen


def _invert_by_blocks(
    probabilities: Float[Tensor, "R V"], uniforms: Float64[Tensor, " A"], rows: Int[Tensor, " A"]
) -> Int[Tensor, " A"]:
    """Find the block in which the index of `invert` lies, and then the index."""
    num_rows, num_words = probabilities.shape
    whole = num_words - num_words % _BLOCK
    sums = [
        probabilities[:, :whole].view(num_rows, -1, _BLOCK).sum(-1),
        probabilities[:, whole:].sum(-1, keepdim=True),
    ]
    cumulative = torch.cat(sums, dim=1).double().cumsum(-1)
    targets = (uniforms * cumulative[:, -1][rows])[:, None]
    block, before = _first_above(cumulative[rows], targets)
    words = block * _BLOCK + torch.arange(_BLOCK, device=rows.device)
    inside = probabilities[rows[:, None], words.clamp(max=num_words - 1)].double()
    sums_inside = inside.masked_fill(words >= num_words, 0.0).cumsum(-1)
    within, _ = _first_above(sums_inside, targets - before)
    return (block * _BLOCK + within).squeeze(1).clamp(max=num_words - 1)


def _first_above(
    cumulative: Float64[Tensor, "A K"], targets: Float64[Tensor, "A 1"]
) -> tuple[Int[Tensor, "A 1"], Float64[Tensor, "A 1"]]:
    """Return the first place whose sum exceeds the target, and the sum before it.

    Where rounding lets none do so, it is the last place that adds anything.
    """
    index = torch.searchsorted(cumulative, targets, right=True)
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous(), right=False)
    place = torch.minimum(index, last).clamp(max=cumulative.shape[1] - 1)
    before = cumulative.gather(1, (place - 1).clamp(min=0)).where(place > 0, 0.0)
    return place, before
