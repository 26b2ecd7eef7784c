"""Whole answers, cut into the steps in which a filter would have drawn them.

A policy writes one token after the other, whatever counts as a step. A solution that is drawn in
one piece therefore has the law of one that is drawn step by step, if it is cut where the rule of
steps says that a step is complete, and ends with the step that gives its answer.

Shapes: N solutions, L tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from llmsmc.grading.extraction import gives_answer
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.particles import NO_STEP, ReasoningParticles
from llmsmc.models.reasoning.step_sampling import BOX, with_texts
from llmsmc.models.text.stopping import StepRule


@dataclass(frozen=True)
class CutSolution:
    """A solution in steps.

    Attributes:
        steps: the texts of its steps, delimiters included; none of them is blank.
        step_ends: for each of these texts, how many tokens there are up to its end.
        num_tokens: how many tokens it has, blank ones at its end included.
        gives_answer: whether it ends with the step that gives its answer.
    """

    steps: tuple[str, ...]
    step_ends: tuple[int, ...]
    num_tokens: int
    gives_answer: bool

    @property
    def text(self) -> str:
        """The whole solution."""
        return "".join(self.steps)


def cut(
    policy: Policy,
    rule: StepRule,
    solutions: Sequence[Sequence[int]],
    *,
    stop_at_answer: bool = True,
) -> list[CutSolution]:
    r"""Return solutions in steps, each up to the step that gives its answer.

    Args:
        policy: the language model whose tokens they are.
        rule: the rule that ends a step.
        solutions: the tokens of each.
        stop_at_answer: whether what follows the step that gives the answer in ``\boxed{}`` is left
            out; see `llmsmc.models.Reasoning`.
    """
    found = list[CutSolution]()
    for token_ids, ends in zip(solutions, _step_ends(policy, rule, solutions), strict=True):
        answered = _answering(policy, token_ids, ends) if stop_at_answer else None
        if answered is not None:
            ends = ends[: answered + 1]
        steps, stops = _texts(policy, token_ids, ends)
        found.append(CutSolution(steps, stops, ends[-1] if ends else 0, answered is not None))
    return found


def _step_ends(
    policy: Policy, rule: StepRule, solutions: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Return the number of tokens up to the end of each step; the last may be unfinished."""
    automaton = policy.tokens.automaton(rule)
    width = max(map(len, solutions), default=0)
    ids = torch.tensor([[*each, *[0] * (width - len(each))] for each in solutions]).long()
    ids = ids.reshape(len(solutions), width).to(policy.device)
    fresh = states = automaton.start(len(solutions))
    complete = torch.zeros(ids.shape, dtype=torch.bool)
    for position, column in enumerate(ids.T):
        states = automaton.advance(states, column)
        is_end = automaton.complete(states)
        complete[:, position] = is_end.cpu()
        states = torch.where(is_end, fresh, states)
    ends = []
    for row, token_ids in zip(complete, solutions, strict=True):
        stops = (row[: len(token_ids)].nonzero().squeeze(1) + 1).tolist()
        is_whole = not len(token_ids) or (stops and stops[-1] == len(token_ids))
        ends.append(stops if is_whole else [*stops, len(token_ids)])
    return ends


def _answering(policy: Policy, token_ids: Sequence[int], ends: Sequence[int]) -> int | None:
    """Return the number of the step in which a solution gives its answer, None without one."""
    text, start = "", 0
    for number, end in enumerate(ends):
        text += policy.tokens.decode(token_ids[start:end], after=token_ids[:start])
        start = end
        if BOX in text and gives_answer(text):
            return number
    return None


def _texts(
    policy: Policy, token_ids: Sequence[int], ends: Sequence[int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the texts of the steps and where they end; blank ones belong to others."""
    zero = torch.zeros(1, dtype=torch.long)
    unknown = torch.zeros((1, len(token_ids)), dtype=torch.float64)
    solution = replace(
        ReasoningParticles.empty("", (), 1),
        token_ids=torch.tensor([list(token_ids)]).long(),
        num_tokens=torch.tensor([len(token_ids)]),
        transition_ends=torch.tensor([list(ends) or [NO_STEP]]),
        log_probs=unknown,
        transition_log_probs=unknown,
        proposal_log_probs=unknown,
    )
    solution = with_texts(solution, zero, zero, policy)
    steps = solution.steps[0]
    return steps, tuple(solution.step_ends[0, : len(steps)].tolist())
