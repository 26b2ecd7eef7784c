"""What another language model says of solutions: each token is scored once, and remembered."""

import torch

from llmsmc.core.cost import Cost
from llmsmc.models.caches.row_cache import CacheRows, join
from llmsmc.models.policies.decoding.requests import ScoreRequest
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import ReasoningParticles, padded


def score_by_expert(
    expert: Policy, prompt_ids: tuple[int, ...], particles: ReasoningParticles
) -> Cost:
    """Fill in `expert_log_probs` where the expert has not read a token yet, in one pass.

    Args:
        expert: a language model with the tokens of the policy.
        prompt_ids: its prompt.
        particles: N solutions; nothing about them changes but what the expert says.
    """
    width = particles.token_ids.shape[1]
    known = padded(particles.expert_log_probs, width, torch.nan)
    written = torch.arange(width) < particles.num_tokens[:, None]
    starts = (~known.isnan() & written).sum(1)
    rows = (starts < particles.num_tokens).nonzero().squeeze(1)
    if not len(rows):
        return Cost()
    memory = particles.expert_memory or CacheRows.none(len(particles))
    scores, cost = expert.score_tokens(
        ScoreRequest(
            prompt_ids,
            particles.token_ids[rows],
            particles.num_tokens[rows],
            starts[rows],
            memory.take(rows),
        )
    )
    known = known.clone()
    columns = torch.arange(scores.log_probs.shape[1])
    valid = columns < (particles.num_tokens - starts)[rows, None]
    owners = rows[:, None].expand_as(valid)
    known[owners[valid], (starts[rows, None] + columns)[valid]] = scores.log_probs[valid]
    particles.expert_log_probs = known
    rest = (starts >= particles.num_tokens).nonzero().squeeze(1)
    order = torch.cat([rows, rest]).argsort()
    joined = join([scores.memory, memory.take(rest)]).take(order)
    particles.expert_memory = joined.keep(~particles.finished)
    return cost
