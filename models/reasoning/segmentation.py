"""Whether solutions are cut into steps where, and only where, their tokens say so.

What is sampled is; what is put together of the steps of several solutions need not be, and then has
no probability.

Shapes: N particles, L generated tokens.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmsmc.models.reasoning.particles import (
    EOS,
    LENGTH,
    MAX_STEPS,
    UNFINISHED,
    ReasoningParticles,
)
from llmsmc.models.text.stopping import Automaton


def complete_steps(
    automaton: Automaton,
    token_ids: Int[Tensor, "N L"],
    num_tokens: Int[Tensor, " N"],
    device: torch.device,
    restart: Callable[[Tensor], Tensor] | None = None,
) -> Bool[Tensor, "N L"]:
    """Return behind which tokens a step is complete, and the next one begins.

    `restart` returns the states with which it does, given those at the end of the last; by default
    all steps begin alike.
    """
    states = automaton.start(len(token_ids))
    ends = torch.zeros(token_ids.shape, dtype=torch.bool)
    for position, ids in enumerate(token_ids.to(device).T):
        states = automaton.advance(states, ids)
        complete = automaton.complete(states)
        ends[:, position] = complete.cpu() & (num_tokens > position)
        fresh = automaton.start(len(ids)) if restart is None else restart(states)
        states = torch.where(complete, fresh, states)
    return ends


def is_segmented(
    particles: ReasoningParticles,
    complete: Bool[Tensor, "N L"],
    is_full: Bool[Tensor, " N"],
    cut_off: Bool[Tensor, " N"],
    max_tokens_per_step: int,
    max_steps: int | None,
) -> Bool[Tensor, " N"]:
    """Return for which solutions the steps end where they must, and are no more than they may be.

    Args:
        particles: the solutions.
        complete: behind which of their tokens a step is complete.
        is_full: which have no room for another token.
        cut_off: which have none, or none in the reward model.
        max_tokens_per_step: number of tokens at which a step is cut off.
        max_steps: number of steps after which solutions are cut off.
    """
    counts, codes = particles.num_tokens, particles.finish_codes
    num_steps, ends = particles.num_transitions, particles.transition_ends
    places = torch.arange(complete.shape[1]) + 1
    is_complete = (complete & (places == counts[:, None])).any(1)
    # A step is cut where it is complete, and nowhere else, but for the last.
    is_earlier = torch.arange(ends.shape[1]) < num_steps[:, None] - 1
    is_cut = torch.zeros(len(counts), complete.shape[1] + 1, dtype=torch.bool)
    is_cut = is_cut.scatter(1, ends.where(is_earlier, 0), True)[:, 1:]
    possible = ((is_cut == complete) | (~is_cut & (places >= counts[:, None]))).all(1)
    before = particles.tokens_after((num_steps - 1).clamp(min=0))
    at_limit = counts - before == max_tokens_per_step
    goes_on = (codes == UNFINISHED) | (codes == MAX_STEPS)
    possible &= is_complete | (codes == EOS) | is_full | (at_limit & ~goes_on)
    possible &= ~is_complete | (codes != LENGTH) | cut_off
    if max_steps is None:
        return possible
    return possible & (num_steps <= max_steps) & ((codes != MAX_STEPS) | (num_steps == max_steps))
