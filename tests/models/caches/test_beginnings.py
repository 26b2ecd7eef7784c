"""Rows that have a beginning in common, which is held once: the same rows, whatever moves them."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmsmc.models.caches.attention import grouped_attention, use_grouped_attention
from llmsmc.models.caches.row_cache import Beginning, RowCache
from llmsmc.models.policies.language_model import LanguageModel
from tests.models.architectures import ARCHITECTURES, make_model, tokenizer_of
from tests.models.caches.test_row_cache import Rows, uncached

ONE, OTHER = list(range(5, 75)), list(range(9, 99))
NEED_WHOLE_ROWS = ("qwen2-window", "gemma2", "gemma3", "mistral-window", "phi3")
MOVES = ("feed", "select", "fork", "keep", "front", "truncate", "hold", "append", "gather")


def made(name: str) -> LanguageModel:
    tokenizer = tokenizer_of(ARCHITECTURES[name][0])
    model = make_model(name, len(tokenizer), int(tokenizer.eos_token_id))
    use_grouped_attention(model)
    return LanguageModel(model, tokenizer)


@pytest.fixture(scope="module")
def network() -> LanguageModel:
    return made("qwen2")


def begun(policy: LanguageModel, beginning: list[int], num_rows: int) -> Rows:
    """Return rows with this beginning, held once where the policy can attend to it."""
    rows, zeros = Rows(policy, 0), torch.zeros(num_rows, dtype=torch.long)
    with torch.no_grad():
        row = policy.prefixes.row(tuple(beginning))[0] if beginning else RowCache(1)
    assert isinstance(row, RowCache)
    rows.cache, rows.ids = row.select(zeros), [list(beginning) for _ in range(num_rows)]
    return rows


def longs(numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def move(rows: Rows, name: str, draw: random.Random) -> None:
    """Move rows about, and their ids in the same way."""
    size, ids, cache = len(rows.ids), rows.ids, rows.cache
    some = [draw.randrange(size) for _ in range(draw.randint(1, 4))]
    few = sorted(set(some))
    if name == "feed":
        rows.feed(
            [[draw.randint(5, 90) for _ in range(draw.randint(0, 3))] for _ in ids[1:]] + [[7]]
        )
    elif name == "select":
        rows.cache, rows.ids = cache.select(longs(some)), [list(ids[n]) for n in some]
    elif name == "fork":
        cache.append(cache, longs(some), cache.lengths[some])
        rows.ids = ids + [list(ids[n]) for n in some]
    elif name in ("keep", "front"):
        places = cache.keep(longs(few)) if name == "keep" else cache.put_in_front(longs(few))
        kept = [(int(place), ids[n]) for n, place in enumerate(places) if place >= 0]
        rows.ids = [row for _, row in sorted(kept)]
    elif name == "truncate":
        lengths = [max(1, len(row) - draw.choice([0, 1, 3, 90])) for row in ids]
        cache.truncate(longs(lengths))
        rows.ids = [row[:length] for row, length in zip(ids, lengths, strict=True)]
    elif name == "hold":
        lengths = [max(1, len(ids[n]) - draw.choice([0, 1, 2, 80])) for n in some]
        rows.cache = cache.moved_out()
        held = rows.cache.hold(longs(some), longs(lengths)).tolist()
        found = zip(held, some, lengths, strict=True)
        rows.ids = [ids[n][:length] for _, n, length in sorted(found)]
    else:
        other = begun(rows.policy, draw.choice([ONE, OTHER, []]), 2)
        other.feed([[3, 4], [5]])
        chosen = [draw.randrange(2) for _ in range(draw.randint(1, 3))]
        taken = [list(other.ids[n]) for n in chosen]
        if name == "append":
            lengths = [max(1, len(row) - draw.choice([0, 1, 60])) for row in taken]
            cache.append(other.cache, longs(chosen), longs(lengths))
            rows.ids = ids + [row[:n] for row, n in zip(taken, lengths, strict=True)]
        else:
            parts = [(cache, longs(some)), (other.cache, longs(chosen))]
            rows.cache, rows.ids = RowCache.gathered(parts), [list(ids[n]) for n in some] + taken


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(MOVES), min_size=1, max_size=6), st.integers(0, 2**32))
def test_rows_hold_what_they_held(network: LanguageModel, moves: list[str], seed: int) -> None:
    draw, rows = random.Random(seed), begun(network, ONE, 3)
    assert rows.cache.beginning is not None
    rows.feed([[1, 2], [3], [4, 4, 4]])
    for name in moves:
        move(rows, name, draw)
        rows.check(tolerance=1e-4)


def test_a_beginning_is_held_once(network: LanguageModel) -> None:
    first, second = begun(network, ONE, 4), begun(network, ONE, 9)
    assert first.cache.beginning is second.cache.beginning is not None
    first.feed([[5]] * 4)
    second.feed([[6]] * 9)
    parts = [(first.cache, longs([3])), (second.cache, longs([8, 0]))]
    both = RowCache.gathered(parts)
    assert both.beginning is first.cache.beginning and both.num_begun == len(ONE)
    assert both.buffers[0].shape[2] == 1 and both.lengths.tolist() == [len(ONE) + 1] * 3
    # As many numbers as without it, but for those of the beginning.
    whole = begun(network, [], 3)
    whole.feed([[*ONE, 5]] * 3)
    per_token = 3 * whole.cache.buffers[0][0, :, 0].nbytes * len(whole.cache.buffers)
    assert both.num_bytes == per_token


def test_rows_with_other_beginnings_are_whole(network: LanguageModel) -> None:
    one, other = begun(network, ONE, 2), begun(network, OTHER, 2)
    rows = Rows(network, 0)
    rows.cache = RowCache.gathered([(one.cache, longs([0])), (other.cache, longs([1, 1]))])
    rows.ids = [list(ONE), list(OTHER), list(OTHER)]
    assert rows.cache.beginning is None
    rows.check()
    # A cache without rows takes the beginning of those that come.
    rows.cache.keep(longs([]))
    rows.cache.append(one.cache, longs([0, 1]), longs([len(ONE)] * 2))
    rows.ids = [list(ONE), list(ONE)]
    assert rows.cache.beginning is one.cache.beginning
    rows.check()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_that_cannot_attend_to_it_have_whole_rows(name: str) -> None:
    policy = made(name)
    rows = begun(policy, ONE, 2)
    assert (rows.cache.beginning is None) == (name in NEED_WHOLE_ROWS)
    rows.feed([[5, 6], [7]])
    logits = rows.feed([[1], [2]])
    for row, found in zip(rows.ids, logits, strict=True):
        torch.testing.assert_close(found, uncached(policy, row), rtol=0, atol=1e-4)


def test_layers_that_are_not_told_have_whole_rows(
    network: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = LanguageModel(network.model, network.tokenizer)
    told = policy.model.model.layers[1].forward

    def deaf(*args: object, beginning: object = None, **options: object) -> object:
        return told(*args, **options)

    monkeypatch.setattr(policy.model.model.layers[1], "forward", deaf)
    assert begun(policy, ONE, 2).cache.beginning is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_new", [1, 5])
def test_attention_in_two_parts(dtype: torch.dtype, num_new: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    query = normal(3, 6, num_new, 16)
    shared = Beginning(9, {2: normal(1, 2, 9, 16), 3: normal(1, 2, 9, 16)})
    keys, values = normal(3, 2, 12, 16), normal(3, 2, 12, 16)
    mask = torch.rand((3, 1, num_new, 12), generator=generator) > 0.4
    mask[..., 0] = True
    layer = torch.nn.Module()
    layer.layer_idx = 1  # type: ignore[assignment]
    found, _ = grouped_attention(layer, query, keys, values, mask, scaling=0.3, beginning=shared)
    all_keys, all_values = (
        torch.cat([shared.buffers[name].expand(3, -1, -1, -1), own], 2).float()
        for name, own in ((2, keys), (3, values))
    )
    everywhere = torch.cat([torch.ones(3, 1, num_new, 9, dtype=torch.bool), mask], -1)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.float(), all_keys, all_values, everywhere, scale=0.3, enable_gqa=True
    )
    tolerance = 1e-6 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(found.float(), expected.transpose(1, 2), rtol=0, atol=tolerance)
