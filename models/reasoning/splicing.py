"""Solutions put together: the first steps of one, and the later ones of another."""

from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from llmsmc.models.policies.decoding.requests import TokenScores
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import NO_STEP, ReasoningParticles, appended
from llmsmc.models.reasoning.step_texts import told


def spliced(
    particles: ReasoningParticles, references: ReasoningParticles, t: int, policy: Policy
) -> ReasoningParticles:
    """Return N unfinished solutions, each continued by the steps from t on of a reference.

    Token ids are the truth: the texts of what is put behind are decoded anew. Nothing of it is
    scored or cached yet.
    """
    behind = torch.full((len(references),), t)
    starts = references.tokens_after(behind)
    counts = references.num_tokens - starts
    width = int(counts.max())
    places = starts[:, None] + torch.arange(width)
    tail = references.token_ids.gather(1, places.clamp(max=references.token_ids.shape[1] - 1))
    lengths = particles.num_tokens
    ends = references.transition_ends[:, t:] + (lengths - starts)[:, None]
    nothing = torch.zeros_like(tail, dtype=torch.float64)
    joined = replace(
        particles,
        token_ids=appended(particles.token_ids, lengths, tail, counts),
        num_tokens=lengths + counts,
        log_probs=appended(particles.log_probs, lengths, nothing, counts),
        transition_log_probs=appended(particles.transition_log_probs, lengths, nothing, counts),
        proposal_log_probs=appended(particles.proposal_log_probs, lengths, nothing, counts),
        transition_ends=appended(
            particles.transition_ends,
            particles.num_transitions,
            ends,
            references.num_transitions - t,
            NO_STEP,
        ),
        finish_codes=references.finish_codes,
        policy_memory=None,
        proposal_memory=None,
    )
    return told(joined, particles.num_steps, particles.num_transitions, policy)


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
