"""Rows of different lengths as one tensor."""

import torch

from llmsmc.models.caches.rows import padded_rows


def test_rows_are_padded_on_the_right() -> None:
    ids, lengths = padded_rows([(5, 6, 7), (), (8,)])
    assert ids.tolist() == [[5, 6, 7], [0, 0, 0], [8, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]


def test_values_and_rows_with_nothing() -> None:
    values, lengths = padded_rows([[-0.5], []], torch.float64)
    assert values.dtype == torch.float64 and values.tolist() == [[-0.5], [0.0]]
    ids, lengths = padded_rows([(), ()])
    assert ids.shape == (2, 0) and ids.dtype == torch.long and lengths.tolist() == [0, 0]
