"""Solutions cut back to their first steps."""

from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from llmsmc.models.caches.cache_rows import CacheRows, Memory
from llmsmc.models.reasoning.particles import UNFINISHED, ReasoningParticles


def rewound(
    particles: ReasoningParticles,
    num_steps: Int64[Tensor, " N"],
    reward_memory: Memory | None,
    num_expert_prompt_tokens: int,
) -> ReasoningParticles:
    """Return the particles after their first steps, unfinished where steps went.

    What is cached of the steps that remain stays cached.

    Args:
        particles: N solutions.
        num_steps: how many steps of each remain, no more than there are.
        reward_memory: what the reward has cached of these.
        num_expert_prompt_tokens: how long the prompt of the expert is, if there is one.
    """
    shortened = num_steps < particles.num_steps
    ends = torch.cat([torch.zeros(len(particles), 1).long(), particles.step_ends], dim=1)
    num_tokens = ends.gather(1, num_steps[:, None]).squeeze(1)
    num_tokens = torch.where(shortened, num_tokens, particles.num_tokens)
    steps = first_steps(particles, num_steps)
    kept = torch.arange(particles.token_ids.shape[1]) < num_tokens[:, None]
    scored = torch.arange(particles.log_odds.shape[1]) < num_steps[:, None]
    read_by_expert = torch.arange(particles.expert_log_probs.shape[1]) < num_tokens[:, None]

    def cut(memory: CacheRows | None, num_prompt_tokens: int) -> CacheRows | None:
        # All but the last token is cached, the prompt's where nothing is left.
        return memory and memory.truncate(num_tokens + num_prompt_tokens - 1)

    num_prompt_tokens = len(particles.prompt_ids)
    return replace(
        particles,
        token_ids=particles.token_ids.where(kept, 0),
        num_tokens=num_tokens,
        log_probs=particles.log_probs.where(kept, 0.0),
        transition_log_probs=particles.transition_log_probs.where(kept, 0.0),
        proposal_log_probs=particles.proposal_log_probs.where(kept, 0.0),
        steps=steps,
        step_ends=particles.step_ends.where(scored, 0),
        log_odds=particles.log_odds.where(scored, torch.nan),
        num_scored=torch.minimum(particles.num_scored, num_steps),
        finish_codes=particles.finish_codes.where(~shortened, UNFINISHED),
        policy_memory=cut(particles.policy_memory, num_prompt_tokens),
        reward_memory=reward_memory,
        proposal_memory=cut(particles.proposal_memory, num_prompt_tokens),
        expert_log_probs=particles.expert_log_probs.where(read_by_expert, torch.nan),
        expert_memory=cut(particles.expert_memory, num_expert_prompt_tokens),
    )


def first_steps(
    particles: ReasoningParticles, num_steps: Int64[Tensor, " N"]
) -> tuple[tuple[str, ...], ...]:
    """Return the texts of the first steps of each particle."""
    counts = num_steps.tolist()
    return tuple(texts[:count] for texts, count in zip(particles.steps, counts, strict=True))
