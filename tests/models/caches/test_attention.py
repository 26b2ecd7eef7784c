"""Heads that share keys and values read them once, whichever release of transformers is there."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llmsmc.models.caches import attention
from llmsmc.models.caches.attention import grouped_attention

ROOM, EXTENT, WIDTH = 64, 40, 16


def inputs(
    num_heads: int, num_shared: int, num_new: int, dtype: torch.dtype
) -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor, Tensor]]:
    layer, generator = nn.Module(), torch.Generator().manual_seed(1)
    layer.num_key_value_groups = num_heads // num_shared  # type: ignore[assignment]
    query = torch.randn(3, num_heads, num_new, WIDTH, generator=generator).to(dtype)
    key, value = torch.randn(2, 3, num_shared, ROOM, WIDTH, generator=generator).to(dtype)
    places = torch.arange(EXTENT - num_new, EXTENT)[:, None]
    mask = torch.arange(EXTENT) <= places - torch.tensor([0, 9, 30])[:, None, None, None]
    mask[2] &= torch.arange(EXTENT) > places - 30 - 4  # a window
    return layer, (query, key[:, :, :EXTENT], value[:, :, :EXTENT], mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("heads", [(14, 2), (4, 4)], ids=str)
@pytest.mark.parametrize("num_new", [1, 3])
def test_what_new_tokens_attend_to(
    dtype: torch.dtype, heads: tuple[int, int], num_new: int
) -> None:
    layer, given = inputs(*heads, num_new, dtype)
    found, _ = grouped_attention(layer, *given, scaling=0.3)
    expected, _ = sdpa_attention_forward(layer, *given, scaling=0.3)
    assert torch.equal(found, expected)


def test_a_row_that_may_see_nothing_is_a_number() -> None:
    layer, (query, key, value, mask) = inputs(14, 2, 1, torch.float32)
    mask[1] = False
    found, _ = grouped_attention(layer, query, key, value, mask)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("num_new", [1, 3])
def test_shared_keys_are_not_copied(num_new: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, (query, key, value, mask) = inputs(14, 2, num_new, torch.float32)
    seen = list[tuple[Tensor, ...]]()

    def spy(*tensors: Any, **settings: Any) -> Tensor:
        seen.append(tensors)
        return scaled_dot_product_attention(*tensors, **settings)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", spy)
    grouped_attention(layer, query, key, value, mask)
    ((queries, keys, values, *_),) = seen
    assert keys is key and values is value
    assert queries.shape == ((3, 2, 7, WIDTH) if num_new == 1 else query.shape)
