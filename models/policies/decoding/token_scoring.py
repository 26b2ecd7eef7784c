"""What a language model says of tokens that somebody else has chosen, for any number of requests.

All tokens of a row are scored in one pass, by teacher forcing.

Shapes: B particles of one request, R rows that differ, L tokens scored at most, V vocabulary.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.errors import NumericalError
from llmsmc.models.caches.row_cache import CacheRows, gather
from llmsmc.models.policies.decoding.requests import (
    CachedPrefix,
    Prefix,
    Rows,
    ScoreRequest,
    TokenScores,
    cached,
    distinct,
)

if TYPE_CHECKING:
    from llmsmc.models.policies.language_model import LanguageModel

MAX_LOGITS: Final = 2**26  # numbers that the logits of several positions may take at once


Scored = tuple[TokenScores, Cost] | NumericalError
"""The answer to a request."""


def score(policy: "LanguageModel", requests: Sequence[ScoreRequest]) -> list[Scored]:
    """Score the tokens of all requests in one batch; tell what each has cost."""
    begun = time.perf_counter()
    groups = [distinct(r.token_ids, r.num_tokens, r.memory.present, r.starts) for r in requests]
    with torch.no_grad():
        prefixes = [
            Prefix(r.prompt_ids, r.token_ids[firsts], r.starts[firsts], r.memory.take(firsts))
            for r, (firsts, _) in zip(requests, groups, strict=True)
        ]
        found = cached(policy.forward, policy.device, prefixes)
        stops = [r.num_tokens[firsts] for r, (firsts, _) in zip(requests, groups, strict=True)]
        counts = [stop - p.num_tokens for stop, p in zip(stops, prefixes, strict=True)]
        width = max(int(each.max()) for each in counts)
        parts = [_one_part(each) for each in found]
        cache = gather([(part.cache, part.rows) for part in parts], room=width)
        cache.truncate(torch.cat([part.lengths for part in parts]).to(policy.device))
        targets = torch.cat([_targets(p, width) for p in prefixes])
        last_ids = torch.cat([p.last_ids for p in prefixes])
        fed, fed_counts = torch.cat([last_ids[:, None], targets], 1)[:, :width], torch.cat(counts)
        sizes = [len(each) for each in counts]
        scales = torch.repeat_interleave(
            torch.tensor([float(r.temperature) for r in requests]), torch.tensor(sizes)
        ).to(policy.device)[:, None, None]
        is_raw = all(request.temperature == 1 for request in requests)
        raw, tempered = list[Tensor](), list[Tensor]()
        chunk = max(1, MAX_LOGITS // (len(fed) * policy.vocab_size))
        for begin in range(0, width, chunk):
            block = slice(begin, begin + chunk)
            ids = fed[:, block].to(policy.device)
            logits = policy.logits(cache, ids, keep=ids.shape[1]).float()
            cache.commit((fed_counts - begin).clamp(0, ids.shape[1]).to(policy.device))
            chosen = targets[:, block, None].to(policy.device)
            raw.append(_chosen(logits, chosen))
            tempered.append(raw[-1] if is_raw else _chosen(logits / scales, chosen))
    valid = torch.arange(width) < fed_counts[:, None]
    joined = [torch.cat(values, dim=1).where(valid, 0.0) for values in (raw, tempered)]
    calls, ends = -(-width // chunk), torch.tensor(sizes).cumsum(0).tolist()
    seconds = time.perf_counter() - begun
    answers = list[Scored]()
    for (_, which), prefix, end, size in zip(groups, found, ends, sizes, strict=True):
        rows = torch.arange(end - size, end)
        own = int(fed_counts[rows].max())
        scores = [values[rows, :own] for values in joined]
        broken = scores[0].isnan().any(1)
        if bool(broken.any()):
            particle = int(broken[which].nonzero()[0])
            answers.append(
                NumericalError(
                    f"The logits of the language model are not numbers for particle {particle}."
                )
            )
            continue
        memory = CacheRows(cache, rows, cache.lengths.cpu()[rows]).take(which).own()
        cost = Cost(
            policy_positions=prefix.positions + size * width,
            model_calls=prefix.calls + calls,
            policy_seconds=seconds * size / len(fed),
        )
        answers.append((TokenScores(scores[0][which], scores[1][which], memory), cost))
    return answers


def _targets(prefix: Prefix, width: int) -> Int[Tensor, "R L"]:
    """Return the tokens behind the prefix, and anything behind these."""
    places = prefix.num_tokens[:, None] + torch.arange(width)
    last = max(prefix.token_ids.shape[1] - 1, 0)
    return prefix.token_ids.gather(1, places.clamp(max=last))


def _chosen(logits: Float[Tensor, "R q V"], ids: Int[Tensor, "R q 1"]) -> Float64[Tensor, "R q"]:
    return logits.log_softmax(-1).gather(-1, ids).squeeze(-1).double().cpu()


def _one_part(found: CachedPrefix) -> Rows:
    """Return the rows of the prefixes, in order, as rows of one cache."""
    cache, rows = found.rows[0].cache, found.rows[0].rows.cpu()
    if len(found.rows) > 1:
        cache = gather([(part.cache, part.rows) for part in found.rows])
        rows = torch.arange(cache.num_rows)
    lengths = torch.cat([part.lengths.cpu() for part in found.rows])
    return Rows(cache, rows[found.row_of], lengths[found.row_of])
