"""Solutions put together: the first steps of one, and the later ones of another."""

from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from llmsmc.models.policies.policy import Policy
from llmsmc.models.policies.token_scoring import TokenScores
from llmsmc.models.reasoning.particles import ReasoningParticles, appended, padded


def spliced(
    particles: ReasoningParticles, references: ReasoningParticles, t: int, policy: Policy
) -> ReasoningParticles:
    """Return N unfinished solutions, each continued by the steps from t on of a reference.

    Token ids are the truth: the texts of what is put behind are decoded anew. Nothing of it is
    scored or cached yet.
    """
    starts = _ends(references, t)
    counts = references.num_tokens - starts
    width = int(counts.max())
    places = starts[:, None] + torch.arange(width)
    tail = references.token_ids.gather(1, places.clamp(max=references.token_ids.shape[1] - 1))
    lengths = particles.num_tokens
    token_ids = appended(particles.token_ids, lengths, tail, counts)
    steps, ends = [], []
    for n, old in enumerate(particles.steps):
        shift = int(lengths[n] - starts[n])
        count = len(references.steps[n])
        stops = [*particles.step_ends[n, : len(old)].tolist()]
        texts = list(old)
        for stop in (references.step_ends[n, t:count] + shift).tolist():
            ids = token_ids[n, :stop].tolist()
            begin = stops[-1] if stops else 0
            texts.append(policy.decode(ids[begin:], after=ids[:begin]))
            stops.append(stop)
        steps.append(tuple(texts))
        ends.append(stops)
    most = max(particles.log_odds.shape[1], *(len(row) for row in ends))
    nothing = torch.zeros_like(tail, dtype=torch.float64)
    return replace(
        particles,
        token_ids=token_ids,
        num_tokens=lengths + counts,
        log_probs=appended(particles.log_probs, lengths, nothing, counts),
        transition_log_probs=appended(particles.transition_log_probs, lengths, nothing, counts),
        proposal_log_probs=appended(particles.proposal_log_probs, lengths, nothing, counts),
        steps=tuple(steps),
        step_ends=torch.tensor([row + [0] * (most - len(row)) for row in ends]),
        log_odds=padded(particles.log_odds, most, torch.nan),
        finish_codes=references.finish_codes,
        policy_memory=None,
        proposal_memory=None,
    )


def with_scores(
    particles: ReasoningParticles, starts: Int64[Tensor, " N"], scores: TokenScores
) -> ReasoningParticles:
    """Fill in what the policy says of the tokens from `starts` on."""
    counts = particles.num_tokens - starts

    def put(rows: Tensor, new: Tensor) -> Tensor:
        kept = torch.arange(rows.shape[1]) < starts[:, None]
        return appended(rows.where(kept, 0.0), starts, new, counts)

    return replace(
        particles,
        log_probs=put(particles.log_probs, scores.log_probs),
        transition_log_probs=put(particles.transition_log_probs, scores.tempered_log_probs),
        proposal_log_probs=put(particles.proposal_log_probs, scores.tempered_log_probs),
    )


def _ends(particles: ReasoningParticles, num_steps: int) -> Int64[Tensor, " N"]:
    """Return how many tokens the first steps of each solution have."""
    if num_steps == 0:
        return torch.zeros(len(particles), dtype=torch.long)
    return particles.step_ends[:, num_steps - 1]
