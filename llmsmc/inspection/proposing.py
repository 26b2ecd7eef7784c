"""Which settings suit a policy, by what was measured on a few of its solutions."""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from llmsmc import defaults
from llmsmc.core.counted import agreeing, counted
from llmsmc.inspection.report import Proposal, RuleReport, Solution
from llmsmc.solving.settings import Settings

RULES: Final = (r"\n\n", r"fences:\n\n", r"\n", r"fences:\n", r"regex:[.!?]\s", "tokens:64")
"""The rules that are compared, in the order in which they are preferred."""

MIN_STEPS: Final = 2.5  # of a solution, on average: between fewer there is nothing to choose
MIN_ENDED: Final = 0.95  # of the steps

_FENCE: Final = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_SETTINGS: Final = {each.name for each in fields(Settings)}


def proposals(
    rules: Sequence[RuleReport],
    solutions: Sequence[Solution],
    system: str | None,
    max_tokens: int,
    takes_system: bool,
) -> tuple[tuple[Proposal, ...], tuple[str, ...]]:
    """Return the options to use, and remarks.

    Args:
        rules: how the solutions are cut under each rule, the preferred ones first.
        solutions: the solutions.
        system: the system prompt that was given.
        max_tokens: the tokens at which the solutions were cut off.
        takes_system: whether the chat template takes a system prompt.
    """
    found, remarks = list[Proposal](), list[str]()
    answered = sum(each.answer is not None for each in solutions)
    cut_off = sum(not each.is_ended for each in solutions)
    of_all = f"of {counted(len(solutions), 'solution')}"
    unanswered = sum(each.answer is None and each.is_ended for each in solutions)
    if unanswered > len(solutions) / 2:
        reason = f"{unanswered} {of_all} came to an end without an answer in a box or behind ####"
        if not takes_system:
            remarks.append(f"{reason}; ask for a box in the question: there is no system prompt.")
        elif system is None:
            found.append(Proposal("--system", "boxed", reason))
        else:
            remarks.append(f"{reason}, though --system was given: say what the box is to hold.")
    chosen, why = _chosen(rules, solutions)
    found.append(Proposal("--step", chosen.rule, why))
    found.append(_limit_of_steps(chosen))
    if 2 * chosen.most_steps > defaults.DEFAULT_MAX_STEPS:
        reason = f"twice the steps of the solution with most of them ({chosen.most_steps})"
        found.append(Proposal("--max-steps", str(_rounded(2 * chosen.most_steps)), reason))
    if "max_tokens" in _SETTINGS:
        found.append(_limit_of_solutions(solutions, max_tokens))
    if cut_off:
        remarks.append(
            f"{_cut_off(cut_off, solutions, max_tokens)}; what is said of "
            f"{agreeing(cut_off, 'it', 'these')} ends there. Look again with a larger --max-tokens."
        )
    if any("</think>" in each.text for each in solutions):
        reason = "solutions have the tag </think>: answers are looked for behind it"
        found.append(Proposal("--thinking", None, reason))
    if answered < len(solutions) and not unanswered and not cut_off:
        missing = len(solutions) - answered
        remarks.append(f"{missing} {of_all} {agreeing(missing, 'has', 'have')} no answer.")
    return tuple(found), tuple(remarks)


def _chosen(rules: Sequence[RuleReport], solutions: Sequence[Solution]) -> tuple[RuleReport, str]:
    """Return the first rule that cuts solutions into several steps which end by themselves."""
    has_fences = any(_FENCE.search(each.text) for each in solutions)
    candidates = list[RuleReport]()
    for rule in rules:
        if rule.rule.startswith("fences:") and not has_fences:
            continue
        # Where there are blocks, a rule that keeps them whole stands for the one that does not.
        if has_fences and any(other.rule == f"fences:{rule.rule}" for other in rules):
            continue
        candidates.append(rule)
    candidates = candidates or list(rules)
    fitting = [
        rule for rule in candidates if rule.mean_steps >= MIN_STEPS and rule.ended >= MIN_ENDED
    ]
    chosen = fitting[0] if fitting else max(candidates, key=lambda rule: rule.ended)
    why = (
        f"{chosen.mean_steps:.1f} steps a solution, of {chosen.median_tokens:g} tokens (median), "
        f"{chosen.ended:.0%} of which end by themselves"
    )
    passed_over = candidates[: candidates.index(chosen)]
    if passed_over:
        others = ", ".join(
            f"{rule.rule} makes {rule.mean_steps:.1f} steps, {rule.ended:.0%} of which end"
            for rule in passed_over
        )
        why += f"; {others}"
    if chosen.rule.startswith("fences:"):
        why += "; solutions have blocks of code, which stay whole"
    return chosen, why


def _limit_of_steps(rule: RuleReport) -> Proposal:
    if not rule.longest:
        value = str(defaults.DEFAULT_MAX_TOKENS_PER_STEP)
        return Proposal("--max-tokens-per-step", value, "no step has ended by itself")
    value = str(_rounded(2 * rule.longest))
    reason = f"twice the longest step that ended by itself ({counted(rule.longest, 'token')})"
    return Proposal("--max-tokens-per-step", value, reason)


def _limit_of_solutions(solutions: Sequence[Solution], max_tokens: int) -> Proposal:
    cut_off = sum(not each.is_ended for each in solutions)
    if cut_off:
        reason = _cut_off(cut_off, solutions, max_tokens)
        return Proposal("--max-tokens", str(2 * max_tokens), reason)
    longest = max(each.num_tokens for each in solutions)
    reason = f"twice the longest solution ({counted(longest, 'token')})"
    return Proposal("--max-tokens", str(_rounded(2 * longest)), reason)


def _cut_off(count: int, solutions: Sequence[Solution], max_tokens: int) -> str:
    were = agreeing(count, "was", "were")
    limit = counted(max_tokens, "token")
    return f"{count} of {counted(len(solutions), 'solution')} {were} cut off at {limit}"


def _rounded(number: int) -> int:
    """Return the next number up with two digits of the binary system: 16, 24, 32, 48, 64, ..."""
    size = 1 << max(4, number.bit_length() - 1)
    return next(each for each in (size, size * 3 // 2, size * 2) if each >= number)


def default_rules(step: str | None) -> tuple[str, ...]:
    """Return the rules to compare, with one that a user asks for."""
    return RULES if step is None or step in RULES else (*RULES, step)
