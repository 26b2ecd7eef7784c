"""The texts of steps, told from the tokens and from where each transition ended.

A step is what one transition wrote: one token or more, up to where the rule of steps says that it
is complete, the text ended, or a limit cut it off. There is one count of them, the table
`transition_ends` of the particles, by which solutions are drawn, cut back, put together and counted
alike. The texts follow from it and from the tokens: what is blank of itself (the end of the text
alone, or white space) is no text. It belongs to the one before, or to the one that comes where
there is none before.

Shapes: N particles.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import ReasoningParticles, padded


def told(
    particles: ReasoningParticles,
    num_texts: Int64[Tensor, " N"],
    num_told: Int64[Tensor, " N"],
    policy: Policy,
) -> ReasoningParticles:
    """Return the particles with the texts that their tokens and steps have.

    A text keeps its score until it changes, or one before it does.

    Args:
        particles: tokens and steps as they are to be, with the texts and scores of before.
        num_texts: how many of these texts stand as they did.
        num_told: of how many steps they are; what is behind these is told anew.
        policy: the language model, which says what tokens mean.
    """
    rows, old_ends = particles.token_ids.tolist(), particles.step_ends.tolist()
    transitions, counts = particles.transition_ends.tolist(), particles.num_transitions.tolist()
    steps, ends, num_same = [], [], []
    for n, (known, first) in enumerate(zip(num_texts.tolist(), num_told.tolist(), strict=True)):
        old, ids = particles.steps[n], rows[n]
        texts, stops = list(old[:known]), old_ends[n][:known]
        for stop in transitions[n][first : counts[n]]:
            start = stops[-1] if stops else 0
            text = policy.tokens.decode(ids[start:stop], after=ids[:start])
            if text.strip():
                texts.append(text)
                stops.append(stop)
            elif texts:
                texts[-1] += text
                stops[-1] = stop
        steps.append(tuple(texts))
        ends.append(stops)
        num_same.append(_num_equal(old, texts, max(0, known - 1)))
    width = max(particles.step_ends.shape[1], *(len(stops) for stops in ends))
    places = torch.arange(particles.log_odds.shape[1])
    log_odds = particles.log_odds.where(places < torch.tensor(num_same)[:, None], torch.nan)
    # Where a solution was read as a whole, the texts within have no scores.
    scored = (places < particles.num_scored[:, None]) & ~log_odds.isnan()
    last_scored = padded(scored * (places + 1), 1).amax(1)
    return replace(
        particles,
        steps=tuple(steps),
        step_ends=torch.tensor([stops + [0] * (width - len(stops)) for stops in ends]).long(),
        log_odds=padded(log_odds, width, torch.nan),
        num_scored=last_scored,
    )


def _num_equal(old: Sequence[str], new: Sequence[str], count: int) -> int:
    """Return how many texts stand as they did, at least `count`."""
    while count < min(len(old), len(new)) and old[count] == new[count]:
        count += 1
    return count
