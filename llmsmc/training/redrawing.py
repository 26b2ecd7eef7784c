"""Solutions of which wrong steps are drawn anew, by the verdicts of a checker.

A solution that is drawn in one piece tells little once it has gone wrong: steps behind the first
error are not learnt. Here each step is judged as soon as it is drawn. A wrong one is kept as a
solution of its own, which ends with it, and the step is drawn anew behind the same steps. So all
that is drawn is learnt, and steps stand behind right ones, as in a filter that works.

The law of a step given what stands before it is that of the policy, right or wrong.

Shapes: N solutions.
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from llmsmc.grading.forms import BOXED
from llmsmc.models import Reasoning
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.training.sampling import DrawnSolution, Sampling
from llmsmc.training.verdicts import Checker, verdicts

TRIES: Final = 4
"""How often a step is drawn before a solution that has no right one is given up."""


def redrawn(
    policy: Policy, question: str, sampling: Sampling, generator: Generator
) -> list[DrawnSolution]:
    """Draw solutions of a question, and each wrong step anew; consumes `generator`.

    Returns:
        The solutions of right steps, as far as they come, and those that end with a wrong one.

    Raises:
        InputError: the checker fails.
    """
    checker = sampling.checker
    assert checker is not None
    model = Reasoning(
        policy,
        None,
        question,
        temperature=sampling.temperature,
        step=sampling.step,
        max_steps=None,
        max_tokens_per_step=sampling.max_tokens or policy.context_length,
        max_tokens=sampling.max_tokens,
        system=sampling.system,
        stop_at_answer=BOXED in sampling.answer_forms,
        answer_forms=sampling.answer_forms,
        readout=sampling.readout,
    )
    found = list[DrawnSolution]()
    before: ReasoningParticles | None = None
    t = 0
    while before is None or len(before):
        accepted, count = list[ReasoningParticles](), sampling.num_samples
        for _ in range(TRIES):
            if before is None:
                drawn = model.sample_initial(count, generator=generator)
                given = [0] * count
            else:
                drawn = model.sample_transition(t, before, generator=generator)
                given = [len(steps) for steps in before.steps]
            is_wrong = _are_wrong(checker, question, drawn, given)
            wrong = is_wrong.nonzero().squeeze(1)
            found += [_written(drawn, n, given[n]) for n in wrong.tolist()]
            accepted.append(drawn[(~is_wrong).nonzero().squeeze(1)])
            before, count = (None if before is None else before[wrong]), len(wrong)
            if not count:
                break
        if before is not None:  # no right step was found behind these
            found += [_written(before, n) for n in range(len(before))]
        reached = accepted[0].concatenate(accepted[1:])
        found += [_written(reached, n) for n in reached.finished.nonzero().flatten().tolist()]
        before = reached[(~reached.finished).nonzero().squeeze(1)]
        t += 1
    return found


def _are_wrong(
    checker: Checker, question: str, drawn: ReasoningParticles, given: Sequence[int]
) -> Bool[Tensor, " N"]:
    """Return which of the solutions have a wrong step among those that were drawn."""
    labels = [
        verdicts(checker, question, steps)[count:]
        for steps, count in zip(drawn.steps, given, strict=True)
    ]
    return torch.tensor([any(x is not None and x < 0.5 for x in row) for row in labels])


def _written(particles: ReasoningParticles, n: int, given: int = 0) -> DrawnSolution:
    count, one = int(particles.num_tokens[n]), particles[n]
    return DrawnSolution(
        list(one.token_ids),
        particles.log_probs[n, :count],
        None if particles.features is None else particles.features[n, :count],
        one.finish_reason or "checker",
        given,
    )
