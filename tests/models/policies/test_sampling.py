"""Tokens are drawn from the law given, with numbers that belong to the particle."""

import math

import torch

from llmsmc.models.policies.decoding.drawing import invert
from llmsmc.models.policies.decoding.requests import TOKENS_PER_CHUNK, UniformTable


def test_frequencies() -> None:
    law = torch.tensor([0.1, 0.0, 0.6, 0.3])
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    ids = invert(law.log().expand(1000, -1), uniforms, torch.arange(1000))
    assert ids.bincount(minlength=4).tolist() == [100, 0, 600, 300]


def test_edges() -> None:
    log_probs = torch.tensor([[0.0, 0.5, 0.5, 0.0]]).log().expand(2, -1)
    uniforms = torch.tensor([0.0, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert invert(log_probs, uniforms, torch.arange(2)).tolist() == [1, 2]


def test_rounding_never_gives_an_impossible_token() -> None:
    log_probs = torch.full((1, 50_000), -math.log(49_990.0))
    log_probs[0, -10:] = -math.inf
    uniforms = torch.tensor([math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert invert(log_probs, uniforms, torch.arange(1)).item() < 49_990


def test_not_a_number_stays_in_range() -> None:
    log_probs = torch.full((1, 4), math.nan)
    assert (
        0 <= invert(log_probs, torch.tensor([0.3], dtype=torch.float64), torch.arange(1)).item() < 4
    )


def test_the_table_does_not_depend_on_how_it_is_read() -> None:
    one = UniformTable(3, torch.Generator().manual_seed(1))
    two = UniformTable(3, torch.Generator().manual_seed(1))
    late = two.column(2 * TOKENS_PER_CHUNK)
    columns = [one.column(index) for index in range(2 * TOKENS_PER_CHUNK + 1)]
    assert torch.equal(columns[-1], late)
    assert torch.equal(columns[5], two.column(5))
    assert len({float(column[0]) for column in columns}) == len(columns)
