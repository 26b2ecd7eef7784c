"""New steps of solutions, scored by one reward model for any number of requests at a time.

Solutions of a request that agree in all of their steps are computed once. Each request costs what
it would alone, in tokens, in calls of the model and, but for padding, in positions: a forward pass
counts as a call of everybody who takes part. The time is shared out by positions.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from llmsmc.cost import Cost
from llmsmc.models.cache_rows import CacheRows, Memory, join
from llmsmc.models.length_groups import length_groups
from llmsmc.models.reward import READINGS, Reading, Solution
from llmsmc.models.row_cache import RowCache, gather

if TYPE_CHECKING:
    from llmsmc.models.reward_model import RewardModel

MAX_POSITIONS: Final = 2**15  # positions of one forward pass; larger batches are cut up
CALL: Final = 64  # positions that take about as long as a call of the model takes beside them


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
        cache: where the ids before are cached.
        row: in which row.
        held: how many of its tokens remain.
        ids: what is fed.
        reads: the positions in `ids` at which scores are read.
    """

    request: int
    number: int
    cache: RowCache
    row: int
    held: int
    ids: tuple[int, ...]
    reads: tuple[int, ...]


class _Answer:
    """What is known of a request so far; collects the scores of its solutions that differ."""

    def __init__(self, request: ScoringRequest) -> None:
        self.request = request
        assert isinstance(request.memory, CacheRows)
        firsts, self._which = _distinct(request.solutions, request.memory)
        self.solutions = [request.solutions[n] for n in firsts]
        self.memory = request.memory.take(torch.tensor(firsts, dtype=torch.long))
        self.scores: list[list[float]] = [[] for _ in firsts]
        self.cost = Cost()
        self._parts, self._order = list[CacheRows](), list[int]()
        self.keep(self.memory, [n for n, each in enumerate(self.solutions) if not each.new])

    @property
    def is_uncached(self) -> bool:
        """Whether the question has to be read again for some solution."""
        cached = self.memory.present.tolist()
        pairs = zip(self.solutions, cached, strict=True)
        return any(solution.new and not present for solution, present in pairs)

    def keep(self, memory: CacheRows, numbers: list[int]) -> None:
        """Remember the rows of these solutions, which are so many particles of `memory`."""
        if numbers:
            rows = torch.tensor(numbers) if memory is self.memory else torch.arange(len(numbers))
            self._parts.append(memory.take(rows))
            self._order += numbers

    def result(self, seconds: float) -> Scores:
        """Return the answer."""
        kept = self.memory
        if self._parts:
            kept = join(self._parts).take(torch.tensor(self._order).argsort())
        cost = self.cost + Cost(reward_seconds=seconds)
        scores = [list(self.scores[group]) for group in self._which]
        return scores, kept.take(torch.tensor(self._which)).own(), cost


def score_together(model: "RewardModel", requests: Sequence[ScoringRequest]) -> list[Scores]:
    """Return the log-odds of what is new, for each request."""
    begun = time.perf_counter()
    answers = [_Answer(request) for request in requests]
    for batch in _batches(list(_plans(model, answers))):
        cache = _gathered(batch)
        log_odds = model.feed(cache, [plan.ids for plan in batch], [plan.reads for plan in batch])
        width = max(len(plan.ids) for plan in batch)
        kept = CacheRows.of(cache, torch.arange(len(batch)), len(batch))
        for index, answer in enumerate(answers):
            rows = [n for n, plan in enumerate(batch) if plan.request == index]
            if rows:
                answer.keep(kept.take(torch.tensor(rows)), [batch[n].number for n in rows])
                answer.cost += Cost(
                    scored_tokens=sum(len(batch[n].ids) for n in rows),
                    reward_positions=len(rows) * width,
                    model_calls=1,
                )
                for n in rows:
                    answer.scores[batch[n].number] = log_odds[n]
    total = max(1, sum(answer.cost.reward_positions for answer in answers))
    seconds = (time.perf_counter() - begun) / total
    return [answer.result(seconds * answer.cost.reward_positions) for answer in answers]


def _plans(model: "RewardModel", answers: Sequence[_Answer]) -> Iterator[Plan]:
    """Yield what has to be fed for each solution: what is not the same any more."""
    uncached = [index for index, answer in enumerate(answers) if answer.is_uncached]
    prefixes = {n: model.prefix_ids(answers[n].request.question) for n in uncached}
    width = max(map(len, prefixes.values()), default=0)
    if prefixes:
        questions = RowCache(len(prefixes), device=model.device)
        model.feed(questions, list(prefixes.values()), [() for _ in prefixes])
    for index, answer in enumerate(answers):
        request, memory = answer.request, answer.memory
        if index in prefixes:
            answer.cost += Cost(reward_positions=width, model_calls=1)
        for number, solution in enumerate(answer.solutions):
            if not solution.new:
                continue
            if bool(memory.present[number]):
                assert memory.cache is not None
                cache, row = memory.cache, int(memory.rows[number])
                held = model.ids(request.question, solution.scored, request.reading)
                held = held[: int(memory.lengths[number])]
            else:
                cache, row, held = questions, uncached.index(index), prefixes[index]
            read = READINGS[request.reading](solution.steps)
            layout = model.convention.layout(request.question, read)
            reads = layout.reads[-min(len(solution.new), len(read)) :]
            common = min(length_of_common_prefix(held, layout.ids), reads[0])
            ids, places = layout.ids[common:], tuple(place - common for place in reads)
            yield Plan(index, number, cache, row, common, ids, places)


def _gathered(batch: Sequence[Plan]) -> RowCache:
    """Return a cache of our own with what is held of each plan, in order."""
    parts = list[tuple[RowCache, list[int]]]()
    for plan in batch:
        if not parts or parts[-1][0] is not plan.cache:
            parts.append((plan.cache, []))
        parts[-1][1].append(plan.row)
    room = max(len(plan.ids) for plan in batch)
    cache = gather([(each, torch.tensor(rows)) for each, rows in parts], room=room)
    cache.truncate(torch.tensor([plan.held for plan in batch]))
    return cache


def _batches(plans: list[Plan]) -> Iterator[list[Plan]]:
    """Yield the plans in groups of similar length, none of which exceeds `MAX_POSITIONS`."""
    plans.sort(key=lambda plan: (len(plan.ids), plan.request, plan.number))
    for rows in length_groups([len(plan.ids) for plan in plans], CALL, MAX_POSITIONS):
        yield sorted((plans[n] for n in rows), key=lambda plan: (plan.request, plan.number))


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
