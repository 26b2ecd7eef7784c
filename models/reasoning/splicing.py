"""Solutions rewound to their first steps, and spliced with the later steps of another."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import TokenScores
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import (
    NO_STEP,
    UNFINISHED,
    ReasoningParticles,
    appended,
    padded,
)
from llmsmc.models.reasoning.step_sampling import with_features, with_texts


def spliced(
    particles: ReasoningParticles, references: ReasoningParticles, t: int, policy: Policy
) -> ReasoningParticles:
    """Return N unfinished solutions, each continued by the steps from t on of a reference.

    The texts of the later steps are decoded anew from their tokens. Nothing of them is scored or
    cached yet, and their log-probabilities are left to `with_scores`.
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
        features=_unread(particles, lengths, counts),
        ahead=None,
        policy_cache=None,
        proposal_cache=None,
    )
    return with_texts(joined, particles.num_steps, particles.num_transitions, policy)


def _unread(
    particles: ReasoningParticles, lengths: Int64[Tensor, " N"], counts: Int64[Tensor, " N"]
) -> Float[Tensor, "N L F"] | None:
    """Return the features of the particles, with new tokens of which nothing is read yet."""
    before = particles.features
    if before is None:
        return None
    nothing = before.new_full((len(before), int(counts.max()), before.shape[2]), torch.nan)
    return appended(before, lengths, nothing, counts, torch.nan)


def with_scores(
    particles: ReasoningParticles, starts: Int64[Tensor, " N"], scores: TokenScores
) -> ReasoningParticles:
    """Return spliced solutions with the policy's log-probabilities from `starts` on."""
    columns = {
        "log_probs": scores.log_probs,
        "transition_log_probs": scores.tempered_log_probs,
        "proposal_log_probs": scores.tempered_log_probs,
    }
    counts = particles.num_tokens - starts
    appended_columns: dict[str, Any] = {
        name: appended(getattr(particles, name), starts, new, counts)
        for name, new in columns.items()
    }
    if scores.features is not None:
        appended_columns["features"] = with_features(particles, starts, scores.features, counts)
    return replace(particles, **appended_columns)


def rewound(
    particles: ReasoningParticles,
    num_transitions: Int64[Tensor, " N"],
    policy: Policy,
    num_expert_prompt_tokens: int,
) -> ReasoningParticles:
    """Return the particles after their first steps, unfinished where steps went.

    The caches of the language models are truncated to the steps that remain; the cache of the
    reward is left to the caller.

    Args:
        particles: N solutions.
        num_transitions: how many steps of each remain, no more than there are.
        policy: the language model.
        num_expert_prompt_tokens: how long the prompt of the expert is, if there is one.
    """
    shortened = num_transitions < particles.num_transitions
    num_tokens = particles.tokens_after(num_transitions).where(shortened, particles.num_tokens)
    kept = torch.arange(particles.token_ids.shape[1]) < num_tokens[:, None]
    remains = torch.arange(particles.transition_ends.shape[1]) < num_transitions[:, None]
    read_by_expert = torch.arange(particles.expert_log_probs.shape[1]) < num_tokens[:, None]

    def truncated(handle: CacheRows | None, num_prompt_tokens: int) -> CacheRows | None:
        # All but the last token is cached, the prompt's where nothing is left.
        return handle and handle.truncate(num_tokens + num_prompt_tokens - 1)

    num_prompt_tokens = len(particles.prompt_ids)
    shorter = replace(
        particles,
        token_ids=particles.token_ids.where(kept, 0),
        num_tokens=num_tokens,
        log_probs=particles.log_probs.where(kept, 0.0),
        transition_log_probs=particles.transition_log_probs.where(kept, 0.0),
        proposal_log_probs=particles.proposal_log_probs.where(kept, 0.0),
        features=_where_kept(particles.features, kept),
        transition_ends=particles.transition_ends.where(remains, NO_STEP),
        finish_codes=particles.finish_codes.where(~shortened, UNFINISHED),
        ahead=None,
        policy_cache=truncated(particles.policy_cache, num_prompt_tokens),
        proposal_cache=truncated(particles.proposal_cache, num_prompt_tokens),
        expert_log_probs=particles.expert_log_probs.where(read_by_expert, torch.nan),
        expert_cache=truncated(particles.expert_cache, num_expert_prompt_tokens),
    )
    return with_texts(shorter, *_whole_texts(shorter), policy)


def _where_kept(features: Tensor | None, kept: Tensor) -> Tensor | None:
    return None if features is None else features.where(kept[..., None], torch.nan)


def _whole_texts(
    particles: ReasoningParticles,
) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"]]:
    """Return how many texts are unchanged, and how many steps they belong to.

    The last text is changed where a blank step that belonged to it went.
    """
    is_text = torch.arange(particles.step_ends.shape[1]) < particles.num_steps[:, None]
    is_text &= particles.step_ends <= particles.num_tokens[:, None]
    last = padded(particles.step_ends.where(is_text, 0), 1).amax(1)
    is_step = particles.transition_ends != NO_STEP
    return is_text.sum(1), (is_step & (particles.transition_ends <= last[:, None])).sum(1)
