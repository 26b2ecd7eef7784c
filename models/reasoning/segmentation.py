"""Whether solutions could have been sampled: segmented and finished where their tokens say so.

Sampled solutions are. Solutions that are spliced from the steps of several need not be, and then
have no probability.

Shapes: N particles, L generated tokens.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from llmsmc.models.reasoning.particles import (
    ANSWER,
    EOS,
    FAILED,
    LENGTH,
    MAX_STEPS,
    UNFINISHED,
    ReasoningParticles,
)
from llmsmc.models.reasoning.step_sampling import StepSampler
from llmsmc.models.text.stopping import restarted


def could_be_sampled(
    sampler: StepSampler, particles: ReasoningParticles, before: ReasoningParticles
) -> Bool[Tensor, " N"]:
    """Return which solutions the sampler could have written, in these steps.

    Args:
        sampler: the sampler of steps.
        particles: the solutions.
        before: the same solutions without their last steps, with which they must not have finished.
    """
    reasons, codes = sampler.finish_reasons, particles.finish_codes
    outgrown, counts = reasons.has_outgrown(particles), particles.num_tokens
    is_full = counts >= reasons.room
    # They finish with their answer, and within the room that there is.
    may_be_full = (codes == LENGTH) | (codes == EOS) | (codes == ANSWER)
    possible = (codes != FAILED) & (~is_full | (may_be_full & (counts == reasons.room)))
    possible &= (~outgrown | (codes == LENGTH)) & ~reasons.has_outgrown(before)
    if reasons.stop_at_answer:
        answers = torch.tensor([reasons.has_answer(texts) for texts in particles.steps])
        possible &= (answers == (codes == ANSWER)) | (codes == EOS) | outgrown
        heads = [[texts[: n + 1] for n in range(len(texts))] for texts in before.steps]
        possible &= ~torch.tensor([any(map(reasons.has_answer, each)) for each in heads])
    if sampler.thinking is not None:
        possible &= sampler.thinking.are_possible(particles)
    # A step ends where it is complete, and nowhere else, but for the last.
    complete, ends = _complete_steps(sampler, particles), particles.transition_ends
    num_steps, places = particles.num_transitions, torch.arange(complete.shape[1]) + 1
    is_earlier = torch.arange(ends.shape[1]) < num_steps[:, None] - 1
    is_end = torch.zeros(len(counts), complete.shape[1] + 1, dtype=torch.bool)
    is_end = is_end.scatter(1, ends.where(is_earlier, 0), True)[:, 1:]
    possible &= ((is_end == complete) | (~is_end & (places >= counts[:, None]))).all(1)
    # The last step is complete, or is the last for a reason.
    is_complete = (complete & (places == counts[:, None])).any(1)
    last_length = counts - particles.tokens_after((num_steps - 1).clamp(min=0))
    goes_on = (codes == UNFINISHED) | (codes == MAX_STEPS)
    at_limit = (last_length == sampler.max_tokens_per_step) & ~goes_on
    possible &= is_complete | (codes == EOS) | is_full | at_limit
    possible &= ~is_complete | (codes != LENGTH) | is_full | outgrown
    if reasons.max_steps is None:
        return possible
    possible &= (codes != MAX_STEPS) | (num_steps == reasons.max_steps)
    return possible & (num_steps <= reasons.max_steps)


def _complete_steps(sampler: StepSampler, particles: ReasoningParticles) -> Bool[Tensor, "N L"]:
    """Return behind which tokens a step is complete, and the next one begins."""
    policy, token_ids = sampler.policy, particles.token_ids
    automaton = policy.tokens.automaton(sampler.rule)
    states = automaton.start(len(token_ids))
    ends = torch.zeros(token_ids.shape, dtype=torch.bool)
    for position, ids in enumerate(token_ids.to(policy.device).T):
        states = automaton.advance(states, ids)
        complete = automaton.complete(states)
        ends[:, position] = complete.cpu() & (particles.num_tokens > position)
        states = torch.where(complete, restarted(automaton, states), states)
    return ends
