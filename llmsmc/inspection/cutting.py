"""Whole solutions, cut into steps under a rule after they have been drawn.

The automaton of the rule reads the tokens as it does while they are drawn, so that the steps are
those of a run with that rule.

Shapes: N solutions, L tokens, M bytes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch
from torch import Tensor

from llmsmc.grading.extraction import extract_answer, gives_answer
from llmsmc.inspection.report import RuleReport
from llmsmc.models.caches.rows import padded_rows
from llmsmc.models.reasoning.particles import answer_text
from llmsmc.models.text.fences import OutsideFences
from llmsmc.models.text.regular_expression import RegularExpression
from llmsmc.models.text.stopping import Automaton, Delimiter, StepRule, restarted
from llmsmc.models.text.vocabulary import SpelledVocabulary

_BYTES: Final = [bytes([byte]) for byte in range(256)]
_MAX_ENDINGS: Final = 3


@dataclass(frozen=True)
class Written:
    """The tokens of a solution.

    Attributes:
        token_ids: the tokens.
        is_ended: whether the policy has ended it.
    """

    token_ids: tuple[int, ...]
    is_ended: bool


@dataclass(frozen=True)
class _Cut:
    """A solution in steps.

    Attributes:
        ends: the number of tokens behind each step; one that is blank belongs to that before.
        completed: the same for the steps that the rule has ended, blank ones included.
        is_ended: whether the last one has ended by itself; None where the limit of the drawing cut
            it off, of which a run with the rule knows nothing.
        answer: of the solution, as far as it goes.
    """

    ends: tuple[int, ...]
    completed: tuple[int, ...]
    is_ended: bool | None
    answer: str | None


def cut_report(
    name: str,
    rule: StepRule,
    tokens: SpelledVocabulary,
    solutions: Sequence[Written],
    max_tokens_per_step: int,
    thinking_end: str | None = None,
) -> RuleReport:
    """Return how solutions are cut under a rule.

    Args:
        name: of the rule.
        rule: the rule.
        tokens: the tokens of the policy.
        solutions: the solutions, one or more.
        max_tokens_per_step: number of tokens at which a step, and with it the solution, is cut off.
        thinking_end: the tag behind which solutions answer, if they think.
    """
    completed = _completed(tokens.automaton(rule), solutions, max_tokens_per_step)
    cuts = [
        _cut(solution, ends, tokens, max_tokens_per_step, thinking_end)
        for solution, ends in zip(solutions, completed, strict=True)
    ]
    lengths, ended, num_known = list[int](), list[int](), 0
    last_ids = Counter[int]()
    for solution, cut in zip(solutions, cuts, strict=True):
        sizes = [end - start for start, end in zip((0, *cut.ends), cut.ends, strict=False)]
        lengths += sizes
        ended += sizes if cut.is_ended else sizes[:-1]
        num_known += len(sizes) - (cut.is_ended is None)
        last_ids.update(solution.token_ids[end - 1] for end in cut.completed)
    return RuleReport(
        rule=name,
        num_steps=len(lengths),
        mean_steps=len(lengths) / len(cuts),
        most_steps=max(len(cut.ends) for cut in cuts),
        median_tokens=float(median(lengths)) if lengths else 0.0,
        longest=max(ended, default=0),
        ended=len(ended) / num_known if num_known else 1.0,
        answered=sum(cut.answer is not None for cut in cuts) / len(cuts),
        straddling=_straddling(rule, tokens, solutions, cuts) if _reads_text(rule) else None,
        endings=tuple(
            (tokens.pieces[token_id].decode(errors="replace"), count)
            for token_id, count in last_ids.most_common(_MAX_ENDINGS)
        ),
    )


def _completed(
    automaton: Automaton, solutions: Sequence[Written], max_tokens_per_step: int
) -> list[list[int]]:
    """Return the numbers of tokens behind which a step is complete, up to one that is cut off."""
    token_ids, counts = padded_rows([list(each.token_ids) for each in solutions])
    states = automaton.start(len(solutions))
    complete = torch.zeros(token_ids.shape, dtype=torch.bool)
    for position, ids in enumerate(token_ids.to(states.device).T):
        states = automaton.advance(states, ids)
        now = automaton.complete(states)
        complete[:, position] = now.cpu() & (position < counts)
        states = torch.where(now, restarted(automaton, states), states)
    found = list[list[int]]()
    for row in complete:
        ends = list[int]()
        for end in (row.nonzero().flatten() + 1).tolist():
            if end - (ends[-1] if ends else 0) > max_tokens_per_step:
                break
            ends.append(end)
        found.append(ends)
    return found


def _cut(
    solution: Written,
    completed: Sequence[int],
    tokens: SpelledVocabulary,
    max_tokens_per_step: int,
    thinking_end: str | None,
) -> _Cut:
    """Return a solution in the steps that a run would have drawn."""

    def text(start: int, end: int) -> str:
        return tokens.decode(solution.token_ids[start:end], after=solution.token_ids[:start])

    def answer(end: int) -> str | None:
        return extract_answer(answer_text(text(0, end), thinking_end))

    ends, start = list[int](), 0

    def add(end: int) -> None:
        nonlocal start
        if text(start, end).strip():
            ends.append(end)
            start = end
        elif ends:
            ends[-1] = start = end

    for number, end in enumerate(completed, start=1):
        add(end)
        if gives_answer(answer_text(text(0, end), thinking_end)):
            return _Cut(tuple(ends), tuple(completed[:number]), True, answer(end))
    last, size = completed[-1] if completed else 0, len(solution.token_ids)
    end = min(size, last + max_tokens_per_step)
    add(end)
    is_ended: bool | None = last == end or (end == size and solution.is_ended)
    if not is_ended and end - last < max_tokens_per_step:
        is_ended = None
    return _Cut(tuple(ends), tuple(completed), is_ended, answer(end))


def _reads_text(rule: StepRule) -> bool:
    """Return whether a rule reads bytes, however these are cut into tokens."""
    if isinstance(rule, OutsideFences):
        return isinstance(rule.step, Delimiter | RegularExpression)
    return isinstance(rule, Delimiter | RegularExpression)


def _straddling(
    rule: StepRule, tokens: SpelledVocabulary, solutions: Sequence[Written], cuts: Sequence[_Cut]
) -> int:
    """Return how many steps end within a token that has text behind the end.

    The rule, compiled for single bytes, says where in the last token the step is complete.
    """
    automaton, rows = rule.automaton(_BYTES), list[list[int]]()
    is_start, is_end = list[list[bool]](), list[list[bool]]()
    for solution, cut in zip(solutions, cuts, strict=True):
        pieces = [tokens.pieces[token_id] for token_id in solution.token_ids]
        ends = {*cut.completed}
        rows.append([byte for piece in pieces for byte in piece])
        is_start.append([place == 0 for piece in pieces for place in range(len(piece))])
        is_end.append(
            [
                place == len(piece) - 1 and number in ends
                for number, piece in enumerate(pieces, start=1)
                for place in range(len(piece))
            ]
        )
    data, _ = padded_rows(rows)
    starts, _ = padded_rows(is_start, torch.bool)
    last, _ = padded_rows(is_end, torch.bool)
    states, straddling = automaton.start(len(rows)), 0
    found = torch.full((len(rows),), -1)
    for position, column in enumerate(data.T):
        states = automaton.advance(states, column)
        found = torch.where(starts[:, position], -1, found)
        found = torch.where((found < 0) & automaton.complete(states), position, found)
        now: Tensor = last[:, position]
        for row in now.nonzero().flatten().tolist():
            behind = bytes(rows[row][int(found[row]) + 1 : position + 1])
            straddling += int(found[row]) >= 0 and bool(behind.strip())
        states = torch.where(now, restarted(automaton, states), states)
    return straddling
