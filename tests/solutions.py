"""Posteriors over texts that are written down instead of drawn."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from llmsmc.core.cost import Cost
from llmsmc.core.history import StepRecord
from llmsmc.core.weights import as_log_weights, effective_sample_size, log_evidence
from llmsmc.models.reasoning.particles import EOS, MAX_STEPS, ReasoningParticles
from llmsmc.results.estimates import Guarantee
from llmsmc.results.posterior import Posterior


def population(solutions: Sequence[Sequence[str]], num_cut_off: int = 0) -> ReasoningParticles:
    """Return solutions of given steps, of which the last `num_cut_off` were cut off."""
    count, width = len(solutions), max(len(steps) for steps in solutions)
    codes = [EOS] * (count - num_cut_off) + [MAX_STEPS] * num_cut_off
    return replace(
        ReasoningParticles.empty("What is 3 + 4?", (1, 2), count),
        steps=tuple(tuple(steps) for steps in solutions),
        log_odds=torch.full((count, width), 2.0, dtype=torch.float64),
        step_ends=torch.zeros((count, width), dtype=torch.long),
        finish_codes=torch.tensor(codes),
    )


def posterior(
    solutions: Sequence[Sequence[str]],
    weights: Sequence[float],
    *,
    num_cut_off: int = 0,
    ancestors: Sequence[Sequence[int]] | None = None,
    guarantee: Guarantee = "unbiased evidence",
) -> Posterior:
    """Return a posterior of the solutions with these unnormalised weights."""
    count = len(solutions)
    log_weights = as_log_weights([math.log(w) if w > 0 else -math.inf for w in weights])
    size = effective_sample_size(log_weights)
    evidence = log_evidence(log_weights)
    history = tuple(
        StepRecord(step, size, evidence, torch.tensor(parents), step > 0, count, None, 0.5)
        for step, parents in enumerate(ancestors or [range(count)])
    )
    particles = population(solutions, num_cut_off)
    return Posterior(
        algorithm="BootstrapFilter",
        guarantee=guarantee,
        seed=0,
        particles=particles,
        log_weights=log_weights,
        log_evidence=evidence,
        history=history,
        cost=Cost(generated_tokens=100, seconds=2.0, policy_seconds=1.0, reward_seconds=0.5),
        truncated=particles.truncated,
    )


def answering(*answers: str | None) -> list[list[str]]:
    """Return a solution of two steps for each answer, none for None."""
    return [
        ["First step.\n\n", "Nothing." if answer is None else rf"\boxed{{{answer}}}"]
        for answer in answers
    ]
