"""Whether a model can be run a few tokens at a time, found out by doing it once.

Particles of different lengths share a batch, with their own positions and masks, and go on from
cached keys. A model that heeds these gives the law that it gives for the whole text in one pass;
one that does not, whatever its architecture is called, must not be used.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from llmsmc.errors import InputError

_LENGTHS: Final = (7, 3)  # tokens of two rows, to which both add the same number
_NEW: Final = 2
_SLACK: Final = 10  # between tiny random networks and the many layers of large ones


def require_step_by_step(
    name: str,
    new_rows: Callable[[int], Any],
    forward: Callable[[Any, Tensor, Tensor | None], Tensor],
    whole: Callable[[Tensor], Tensor],
    vocab_size: int,
    device: torch.device,
    tolerance: float,
) -> None:
    """Compare the law behind ragged, cached rows with that of one pass over each row.

    Args:
        name: of the model, for the error.
        new_rows: so many empty rows of the model.
        forward: logits [B, 1, V] behind new ids [B, q] of rows, the first [B] of which are kept.
        whole: logits [V] behind a text [L], in one uncached pass.
        vocab_size: V.
        device: where the model runs.
        tolerance: in nats a token; what is compared is the total variation, which is smaller.

    Raises:
        InputError: the model fails, or gives another law.
    """
    rows = [
        (torch.arange(length + _NEW, device=device) * 7919 + 31 * length) % vocab_size
        for length in _LENGTHS
    ]
    width = max(_LENGTHS)
    first = torch.stack([torch.cat([row[:-_NEW], row.new_zeros(width)])[:width] for row in rows])
    try:
        with torch.no_grad():
            cache = new_rows(len(rows))
            forward(cache, first, torch.tensor(_LENGTHS, device=device))
            cached = forward(cache, torch.stack([row[-_NEW:] for row in rows]), None)[:, -1]
            expected = torch.stack([whole(row) for row in rows])
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _refused(name, f"an error ({type(error).__name__}: {reason})") from error
    found, exact = (logits.float().softmax(-1) for logits in (cached, expected))
    distance = float((found - exact).abs().sum(-1).max()) / 2
    if not distance <= _SLACK * tolerance:
        raise _refused(name, f"a law that is {distance:.2g} away in total variation")


def _refused(name: str, got: str) -> InputError:
    return InputError(
        f"{name} cannot be run step by step: read a few tokens at a time, with a cache, a mask and "
        f"positions of its own for each text, it does not say what it says in one pass. Got {got}; "
        "accepted: models whose attention takes a mask and a cache of keys and values from outside."
    )
