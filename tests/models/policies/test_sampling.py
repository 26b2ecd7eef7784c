"""Tokens are drawn from the law given, with numbers that belong to the particle."""

import math

import pytest
import torch

from llmsmc.models.policies.decoding import drawing
from llmsmc.models.policies.decoding.drawing import draw, invert
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


@pytest.mark.parametrize("num_words", [512 * 17, 152_000, 8193])
def test_blocks_give_what_whole_rows_give(num_words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(num_words)
    logits = 4 * torch.randn(5, num_words, generator=generator)
    logits[1, 1000:] = -math.inf  # the last blocks have nothing
    logits[2, :-1] = -math.inf  # all in the last place
    logits[3, 2:] -= 60.0
    uniforms = torch.rand(400, dtype=torch.float64, generator=generator)
    uniforms[:3] = torch.tensor([0.0, 0.5, math.nextafter(1.0, 0.0)])
    rows = torch.arange(400) % 5
    ids, log_probs = draw(logits, uniforms, rows)
    monkeypatch.setattr(drawing, "MAX_WHOLE", num_words)
    whole, exact = draw(logits, uniforms, rows)
    # A number may fall so near a bound between two words that rounding decides.
    assert int((ids != whole).sum()) <= 1
    same = ids == whole
    torch.testing.assert_close(log_probs[same], exact[same], rtol=0, atol=2e-5)
    assert bool(logits[rows, ids].isfinite().all())


def test_the_law_of_blocks() -> None:
    logits = torch.randn(1, 40_000, generator=torch.Generator().manual_seed(3)).mul(5)
    uniforms = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    ids, _ = draw(logits, uniforms, torch.zeros(20_000, dtype=torch.long))
    counts = ids.bincount(minlength=40_000).double()
    expected = logits[0].double().softmax(0) * 20_000
    assert float((counts - expected).abs().max()) < 1.1


def test_a_row_that_is_no_number_among_blocks_stays_in_range() -> None:
    logits = torch.zeros(2, 10_000)
    logits[0, 7] = math.nan
    ids, log_probs = draw(logits, torch.tensor([0.3, 0.3], dtype=torch.float64), torch.arange(2))
    assert bool(((ids >= 0) & (ids < 10_000)).all()) and ids[1] in (2999, 3000)
    assert log_probs[0].isnan() and log_probs[1].isfinite()
