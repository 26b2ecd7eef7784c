"""What a language model says of tokens that somebody else has chosen, for any number of requests.

All tokens of a row are scored in one pass, by teacher forcing.

Shapes: B particles of one request, R rows that differ, L tokens scored at most, V vocabulary.
"""

import time
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.errors import NumericalError
from llmsmc.models.caches.rows import CacheRows, Rows, gather
from llmsmc.models.policies.decoding.requests import (
    CachedPrefix,
    Network,
    Prefix,
    Readout,
    ScoreRequest,
    TokenScores,
    cached,
    distinct,
)

MAX_LOGITS: Final = 2**26  # numbers that the logits of several positions may take at once

Scored = tuple[TokenScores, Cost] | NumericalError
"""The answer to a request."""


class _Scoring:
    """A request whose tokens are scored, with the rows of it that differ.

    Attributes:
        prefix: what stands before the tokens of each row that are scored.
        which: the row of each particle.
        counts: how many tokens of each row are scored.
        temperatures: of each row.
        readout: what is read of the network at each token; None for nothing.
    """

    def __init__(self, request: ScoreRequest) -> None:
        token_ids, starts, handle = request.token_ids, request.starts, request.handle
        firsts, self.which = distinct(token_ids, request.num_tokens, handle.present, starts)
        starts = starts[firsts]
        self.prefix = Prefix(request.prompt_ids, token_ids[firsts], starts, handle.take(firsts))
        self.counts = request.num_tokens[firsts] - starts
        self.temperatures = torch.full((len(firsts),), float(request.temperature))
        self.readout = request.readout

    def targets(self, width: int) -> Int[Tensor, "R L"]:
        """Return the tokens behind the prefix, and anything behind these."""
        places = self.prefix.num_tokens[:, None] + torch.arange(width)
        last = max(self.prefix.token_ids.shape[1] - 1, 0)
        return self.prefix.token_ids.gather(1, places.clamp(max=last))

    def answer(
        self,
        raw: Tensor,
        tempered: Tensor,
        features: Tensor | None,
        rows: CacheRows,
        cost: Cost,
    ) -> Scored:
        """Return the answer, from what was found for the rows."""
        width = int(self.counts.max())
        broken = raw[:, :width].isnan().any(1)[self.which]
        if bool(broken.any()):
            return NumericalError(
                "The logits of the language model are not numbers for particle "
                f"{int(broken.nonzero()[0])}."
            )
        raw, tempered = raw[self.which, :width], tempered[self.which, :width]
        if features is not None:
            features = features[self.which, :width]
        return TokenScores(raw, tempered, rows.take(self.which).own(), features), cost


def score(network: Network, requests: Sequence[ScoreRequest]) -> list[Scored]:
    """Score the tokens of all requests in one batch; tell what each has cost."""
    begun = time.perf_counter()
    with torch.no_grad():
        scorings = [_Scoring(request) for request in requests]
        found = cached(network, [each.prefix for each in scorings])
        counts = torch.cat([each.counts for each in scorings])
        width = int(counts.max())
        cache = _joined(found, width)
        last_ids = torch.cat([each.last_ids for each in found])
        targets = torch.cat([each.targets(width) for each in scorings])
        ids = torch.cat([last_ids[:, None], targets], dim=1)
        scales = torch.cat([each.temperatures for each in scorings])
        starts = [0, *accumulate(len(each.counts) for each in scorings)]
        readouts = [
            (slice(*ends), each.readout)
            for ends, each in zip(pairwise(starts), scorings, strict=True)
            if each.readout is not None
        ]
        raw, tempered, read, calls = _log_probs(network, cache, ids, counts, scales, readouts)
    seconds, answers = time.perf_counter() - begun, list[Scored]()
    for scoring, prefix, start in zip(scorings, found, starts, strict=False):
        size = len(scoring.counts)
        rows = torch.arange(start, start + size)
        cost = Cost(
            policy_positions=prefix.positions + size * width,
            model_calls=prefix.calls + calls,
            policy_seconds=seconds * size / len(counts),
        )
        handle = CacheRows(cache, rows, cache.lengths.cpu()[rows])
        features = read.get(start)
        answers.append(scoring.answer(raw[rows], tempered[rows], features, handle, cost))
    return answers


def _log_probs(
    network: Network,
    cache: Rows,
    ids: Int[Tensor, "R M"],
    counts: Int[Tensor, " R"],
    temperatures: Float[Tensor, " R"],
    readouts: Sequence[tuple[slice, Readout]],
) -> tuple[Float64[Tensor, "R L"], Float64[Tensor, "R L"], dict[int, Float[Tensor, "S L F"]], int]:
    """Return the log-probabilities of all but the first of the ids of each row.

    Args:
        network: the language model.
        cache: what stands before the ids; all but the last of them are added to it.
        ids: the ids of each row.
        counts: how many of them are scored; the others get zeros.
        temperatures: of each row.
        readouts: what is read in which rows.

    Returns:
        The log-probabilities at temperature 1, those at the temperatures, the features that were
        read, by the first of their rows, and the number of calls.
    """
    ids, width = ids.to(network.device), ids.shape[1] - 1
    scales, is_raw = temperatures.to(network.device)[:, None, None], bool((temperatures == 1).all())
    raw, tempered = list[Tensor](), list[Tensor]()
    read: dict[int, list[Tensor]] = {rows.start: [] for rows, _ in readouts}
    size = max(1, MAX_LOGITS // (len(ids) * network.vocab_size))
    for begin in range(0, width, size):
        fed = ids[:, begin : min(begin + size, width)]
        chosen = ids[:, begin + 1 : begin + 1 + fed.shape[1], None]
        kept = (counts - begin).clamp(0, fed.shape[1]).to(network.device)
        logits, hidden = network.forward(cache, fed, kept, fed.shape[1], reads=bool(readouts))
        logits = logits.float()
        log_probs = logits.log_softmax(-1)
        raw.append(log_probs.gather(-1, chosen).squeeze(-1))
        for rows, readout in readouts:
            places = [each[rows].flatten(0, 1) for each in hidden]
            features = readout.features(places, log_probs[rows].flatten(0, 1))
            read[rows.start].append(features.view(-1, fed.shape[1], readout.size).cpu())
        if not is_raw:
            scaled = (logits / scales).log_softmax(-1)
            tempered.append(scaled.gather(-1, chosen).squeeze(-1))
    valid = torch.arange(width) < counts[:, None]
    found = torch.cat(raw, dim=1).double().cpu().where(valid, 0.0)
    scaled = found if is_raw else torch.cat(tempered, dim=1).double().cpu().where(valid, 0.0)
    joined = {start: torch.cat(parts, dim=1) for start, parts in read.items()}
    return found, scaled, joined, len(raw)


def _joined(found: Sequence[CachedPrefix], room: int) -> Rows:
    """Return a cache with the rows of the prefixes, in order, and room for more tokens."""
    parts, lengths = list[tuple[Rows, Tensor]](), list[Tensor]()
    for prefix in found:
        pieces = [(each.cache, each.rows) for each in prefix.parts if each.cache is not None]
        cache, rows = pieces[0]
        if len(pieces) > 1:
            cache = gather(pieces)
            rows = torch.arange(cache.num_rows)
        parts.append((cache, rows.cpu()[prefix.row_of]))
        lengths.append(torch.cat([each.lengths.cpu() for each in prefix.parts])[prefix.row_of])
    joined = gather(parts, room=room)
    joined.truncate(torch.cat(lengths))
    return joined
