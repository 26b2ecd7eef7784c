"""Rows of different lengths as one tensor."""

from collections.abc import Sequence

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def padded_rows(
    rows: Sequence[Sequence[int] | Sequence[float]], dtype: torch.dtype = torch.long
) -> tuple[Shaped[Tensor, "B L"], Int[Tensor, " B"]]:
    """Return the rows, at least one, padded with zeros on the right, and their lengths."""
    padded = pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True)
    return padded, torch.tensor([len(row) for row in rows])
