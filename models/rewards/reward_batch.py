"""New steps of solutions, scored by one reward model for any number of requests at a time.

Solutions of a request that agree in all of their steps are computed once, each in a row of one
cache; where the cache of the scored steps has been given up, in the buffers of that. Each request
costs what it would alone, in tokens, in calls of the model and, but for padding, in positions: a
forward pass counts as a call of everybody who takes part. The time is shared out by positions.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.models.caches.row_cache import CacheRows, Memory, RowCache, RowSelection, gather
from llmsmc.models.rewards.length_groups import length_groups
from llmsmc.models.rewards.reward import READINGS, Reading, Solution

if TYPE_CHECKING:
    from llmsmc.models.rewards.reward_model import RewardModel

MAX_POSITIONS: Final = 2**15  # positions of one forward pass; larger batches are cut up
MAX_SEEN: Final = 2**15  # rows times cached positions of one forward pass, copied a layer at a time
CALL: Final = 64  # fixed cost of a forward pass, in positions


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """Solutions of a question, of which the new steps are to be scored.

    Attributes:
        question: what they answer.
        solutions: the steps, scored and new.
        memory: what is cached of the scored steps; what is missing is computed again.
        reading: what a score is of.
    """

    question: str
    solutions: Sequence[Solution]
    memory: Memory
    reading: Reading = "steps"


Scores = tuple[list[list[float]], CacheRows, Cost]
"""The answer: the log-odds of each solution, the cached rows for the next call, and the cost."""


@dataclass(frozen=True)
class Plan:
    """What is fed to the model for one solution.

    Attributes:
        request: whose solution it is.
        number: which of its solutions that differ.
        held: how many of its tokens are cached, and remain.
        ids: what is fed.
        reads: the positions in `ids` at which scores are read.
    """

    request: int
    number: int
    held: int
    ids: tuple[int, ...]
    reads: tuple[int, ...]


class _Answer:
    """What is known of a request so far; collects the scores of its solutions that differ.

    Attributes:
        request: the request.
        solutions: those that differ.
        memory: what was cached of them.
        scores: the log-odds of what is new in each.
        cost: what it has cost so far.
        cache: where they are fed.
        rows: the row of each in the cache; -1 where it has none.
    """

    cache: RowCache
    rows: Tensor

    def __init__(self, request: ScoringRequest) -> None:
        self.request = request
        assert isinstance(request.memory, CacheRows)
        firsts, self._which = _distinct(request.solutions, request.memory)
        self.solutions = [request.solutions[n] for n in firsts]
        self.memory = request.memory.take(torch.tensor(firsts, dtype=torch.long))
        self.scores: list[list[float]] = [[] for _ in firsts]
        self.cost = Cost()

    @property
    def is_uncached(self) -> bool:
        """Whether the question has to be read again for some solution."""
        cached = self.memory.present.tolist()
        pairs = zip(self.solutions, cached, strict=True)
        return any(solution.new and not present for solution, present in pairs)

    def hold(self, plans: Sequence[Plan], questions: RowCache, row: int) -> None:
        """Put what is held of each solution into a row of a cache.

        Args:
            plans: what is fed for the solutions.
            questions: where questions are cached that had to be read again.
            row: that of this one.
        """
        present, lengths = self.memory.present, self.memory.lengths.clone()
        for plan in plans:
            lengths[plan.number] = plan.held
        begun = torch.zeros_like(present)
        begun[[plan.number for plan in plans]] = True
        begun &= ~present
        self.cache = RowCache(0, device=questions.lengths.device)
        self.rows = torch.full_like(lengths, -1)
        if bool(present.any()):
            assert self.memory.cache is not None
            held, theirs = self.memory.rows[present], self.memory.cache
            if self.memory.is_given_up:
                self.cache = theirs.moved_out()
                self.rows[present] = self.cache.hold(held, lengths[present]).cpu()
            else:
                self.cache = gather([(theirs, held)])
                self.cache.truncate(lengths[present].to(self.cache.lengths.device))
                self.rows[present] = torch.arange(len(held))
        start, count = self.cache.num_rows, int(begun.sum())
        self.rows[begun] = torch.arange(start, start + count)
        self.cache.append(questions, torch.full((count,), row), lengths[begun], start + count)

    def result(self, seconds: float) -> Scores:
        """Return the answer."""
        kept = self.memory
        if any(solution.new for solution in self.solutions):
            lengths = self.cache.lengths.cpu()[self.rows]
            kept = CacheRows(self.cache, self.rows, lengths.where(self.rows >= 0, 0))
        cost = self.cost + Cost(reward_seconds=seconds)
        scores = [list(self.scores[group]) for group in self._which]
        return scores, kept.take(torch.tensor(self._which)), cost


def score_together(model: "RewardModel", requests: Sequence[ScoringRequest]) -> list[Scores]:
    """Return the log-odds of what is new, for each request."""
    begun = time.perf_counter()
    answers = [_Answer(request) for request in requests]
    batches = list(_batches(_plans(model, answers)))
    for batch in batches:
        _reserve(answers, batch)
    for batch in batches:
        rows = _rows_of(answers, batch)
        log_odds = model.feed(rows, [plan.ids for plan in batch], [plan.reads for plan in batch])
        width = max(len(plan.ids) for plan in batch)
        for plan, values in zip(batch, log_odds, strict=True):
            answers[plan.request].scores[plan.number] = values
        for index in {plan.request for plan in batch}:
            mine = [plan for plan in batch if plan.request == index]
            answers[index].cost += Cost(
                scored_tokens=sum(len(plan.ids) for plan in mine),
                reward_positions=len(mine) * width,
                model_calls=1,
            )
    total = max(1, sum(answer.cost.reward_positions for answer in answers))
    seconds = (time.perf_counter() - begun) / total
    return [answer.result(seconds * answer.cost.reward_positions) for answer in answers]


def _plans(model: "RewardModel", answers: Sequence[_Answer]) -> list[Plan]:
    """Return what has to be fed for each solution: what is not the same any more.

    The rest of them lies in the caches of the answers then.
    """
    uncached = [index for index, answer in enumerate(answers) if answer.is_uncached]
    prefixes = {n: model.prefix_ids(answers[n].request.question) for n in uncached}
    width = max(map(len, prefixes.values()), default=0)
    questions = RowCache(len(prefixes), device=model.device)
    if prefixes:
        model.feed(questions, list(prefixes.values()), [() for _ in prefixes])
    plans = list[Plan]()
    for index, answer in enumerate(answers):
        request, memory = answer.request, answer.memory
        if index in prefixes:
            answer.cost += Cost(reward_positions=width, model_calls=1)
        present, mine = memory.present.tolist(), list[Plan]()
        for number, solution in enumerate(answer.solutions):
            if not solution.new:
                continue
            if present[number]:
                held = model.ids(request.question, solution.scored, request.reading)
                held = held[: int(memory.lengths[number])]
            else:
                held = prefixes[index]
            read = READINGS[request.reading](solution.steps)
            layout = model.convention.layout(request.question, read)
            reads = layout.reads[-min(len(solution.new), len(read)) :]
            common = min(length_of_common_prefix(held, layout.ids), reads[0])
            ids, places = layout.ids[common:], tuple(place - common for place in reads)
            mine.append(Plan(index, number, common, ids, places))
        if mine:
            answer.hold(mine, questions, uncached.index(index) if index in prefixes else -1)
        plans += mine
    return plans


def _reserve(answers: Sequence[_Answer], batch: Sequence[Plan]) -> None:
    """Make room for what is fed in a batch, so that nothing is copied on the way."""
    width = max(len(plan.ids) for plan in batch)
    for index in {plan.request for plan in batch}:
        held = max(plan.held for plan in batch if plan.request == index)
        answers[index].cache.reserve(held + width)


def _rows_of(answers: Sequence[_Answer], batch: Sequence[Plan]) -> RowCache | RowSelection:
    """Return the rows of the plans, in order."""
    rows: dict[int, list[int]] = {}
    for plan in batch:
        rows.setdefault(plan.request, []).append(int(answers[plan.request].rows[plan.number]))
    parts = [(answers[index].cache, torch.tensor(each)) for index, each in rows.items()]
    cache, first = parts[0]
    if len(parts) == 1 and first.tolist() == list(range(cache.num_rows)):
        return cache
    return RowSelection(parts)


def _batches(plans: list[Plan]) -> Iterator[list[Plan]]:
    """Yield the plans in groups of similar length, none of which exceeds the limits."""
    plans.sort(key=lambda plan: (len(plan.ids), plan.request, plan.number))
    for group in length_groups([len(plan.ids) for plan in plans], CALL, MAX_POSITIONS):
        batch = sorted((plans[n] for n in group), key=lambda plan: (plan.request, plan.number))
        longest = max(plan.held for plan in batch) + max(len(plan.ids) for plan in batch)
        size = max(1, MAX_SEEN // longest)
        num_parts = -(-len(batch) // size)
        for part in range(num_parts):
            yield batch[part * len(batch) // num_parts : (part + 1) * len(batch) // num_parts]


def _distinct(solutions: Sequence[Solution], memory: CacheRows) -> tuple[list[int], list[int]]:
    """Return the number of one of each set of equal solutions, and in which set each of them is.

    In each set the first that is cached is taken, if there is one.
    """
    sets: dict[Solution, int] = {}
    which = [sets.setdefault(solution, len(sets)) for solution in solutions]
    firsts: dict[int, int] = {}
    cached = memory.present.tolist()
    for n in sorted(range(len(which)), key=lambda n: not cached[n]):
        firsts.setdefault(which[n], n)
    return [firsts[group] for group in range(len(sets))], which


def length_of_common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids two texts have in common from the start on."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
