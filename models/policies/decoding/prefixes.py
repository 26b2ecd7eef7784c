"""What stands before the tokens that a language model is to draw or to score, cached.

Rows of which nothing is cached any more, or not yet, are computed: the prompts of all that ask in
one batch, and then what has been generated behind each of them.

Shapes: B particles, R rows that differ, L generated tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmsmc.models.caches.handles import CacheRows
from llmsmc.models.caches.ragged import padded_rows
from llmsmc.models.caches.row_cache import RowCache
from llmsmc.models.policies.decoding.loop_members import Rows

Forward = Callable[[RowCache, Tensor], Tensor]
"""Feeds new ids [R, q] to a model, without committing them."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """What particles of one prompt have generated, of which all but the last token is needed.

    Attributes:
        prompt_ids: the prompt.
        token_ids: the generated tokens, padded on the right.
        num_tokens: how many each particle has.
        memory: what is cached of them.
    """

    prompt_ids: tuple[int, ...]
    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    memory: CacheRows

    @property
    def last_ids(self) -> Int[Tensor, " B"]:
        """The last id of each particle, which is that of the prompt where nothing follows it."""
        behind_prompt = torch.full((len(self.num_tokens), 1), self.prompt_ids[-1])
        ids = torch.cat([behind_prompt, self.token_ids], dim=1)
        return ids.gather(1, self.num_tokens[:, None]).squeeze(1)


@dataclass(frozen=True, eq=False)
class CachedPrefix:
    """Where a prefix is cached, but for its last token.

    Attributes:
        rows: the rows, of one cache or two.
        row_of: for each particle its place in `rows`; those that share one agree in all tokens.
        positions: the number of positions that were computed for it, padding included.
        calls: the number of forward passes in which it took part.
    """

    rows: Sequence[Rows]
    row_of: Int[Tensor, " B"]
    positions: int
    calls: int


def cached(
    forward: Forward, device: torch.device, prefixes: Sequence[Prefix]
) -> list[CachedPrefix]:
    """Return where the prefixes are cached, having computed what was not."""
    groups = [distinct(p.token_ids, p.num_tokens, p.memory.present) for p in prefixes]
    incomplete = [
        n
        for n, (prefix, (firsts, _)) in enumerate(zip(prefixes, groups, strict=True))
        if not bool(prefix.memory.present[firsts].all())
    ]
    prompts = [prefixes[n].prompt_ids[:-1] for n in incomplete]
    cache = RowCache(len(prompts), device=device)
    width = max(map(len, prompts), default=0)
    if width:
        ids, lengths = padded_rows(prompts)
        forward(cache, ids.to(device))
        cache.commit(lengths.to(device))
    found = []
    for n, (prefix, (firsts, which)) in enumerate(zip(prefixes, groups, strict=True)):
        held = firsts[prefix.memory.present[firsts]]
        missing = firsts[~prefix.memory.present[firsts]]
        parts, positions, calls = list[Rows](), 0, 0
        if len(held):
            assert prefix.memory.cache is not None
            memory = prefix.memory.take(held)
            parts.append(Rows(prefix.memory.cache, memory.rows, memory.lengths, memory.is_given_up))
        if len(missing):
            rows, computed = _behind(forward, cache, incomplete.index(n), prefix, missing)
            parts.append(rows)
            positions, calls = width + computed, (width > 0) + (computed > 0)
        present = prefix.memory.present[firsts]
        order = torch.cat([present.nonzero(), (~present).nonzero()]).squeeze(1)
        found.append(CachedPrefix(parts, order.argsort()[which], positions, calls))
    return found


def _behind(
    forward: Forward, prompts: RowCache, row: int, prefix: Prefix, missing: Int[Tensor, " R"]
) -> tuple[Rows, int]:
    """Return the rows of these particles, and how many positions were computed behind a prompt."""
    counts, repeated = prefix.num_tokens[missing], torch.full((len(missing),), row)
    longest = int(counts.max())
    if not longest:
        return Rows(prompts, repeated, prompts.lengths[repeated]), 0
    cache = prompts.select(repeated)
    last_of_prompt = torch.full((len(missing), 1), prefix.prompt_ids[-1])
    fed = torch.cat([last_of_prompt, prefix.token_ids[missing, : longest - 1]], dim=1)
    forward(cache, fed.to(cache.lengths.device))
    cache.commit(counts.to(cache.lengths.device))
    return Rows(cache, torch.arange(len(missing)), cache.lengths, True), fed.numel()


def distinct(
    token_ids: Int[Tensor, "B L"],
    num_tokens: Int[Tensor, " B"],
    preferred: Bool[Tensor, " B"],
    starts: Int[Tensor, " B"] | None = None,
) -> tuple[Int[Tensor, " R"], Int[Tensor, " B"]]:
    """Return one of each set of rows with the same tokens, and in which set each row is.

    With `starts`, those of a set begin at the same of them, too. In each set the first of the
    `preferred` rows is taken, if there is one.
    """
    valid = torch.arange(token_ids.shape[1]) < num_tokens[:, None]
    starts = torch.zeros_like(num_tokens) if starts is None else starts
    columns = [token_ids.where(valid, -1), num_tokens[:, None], starts[:, None]]
    rows = torch.cat(columns, dim=1)
    groups, which = torch.unique(rows, dim=0, return_inverse=True)
    order = (2 * which + ~preferred).argsort(stable=True)
    return order[torch.searchsorted(which[order], torch.arange(len(groups)))], which
