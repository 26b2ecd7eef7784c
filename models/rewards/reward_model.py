"""A process reward model: the probability that each step of a solution is right.

The score is the probability of the observation "accepted" in the state-space model. It is kept as
log-odds, which do not saturate.

Solutions grow, and the model's cache grows with them: only new steps are computed. A cached score
equals the score of `RewardModel.score`, which reads the whole solution in one pass.

Shapes: B solutions, K steps, R positions that are read, D width of the hidden states.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError, NumericalError
from llmsmc.models.caches.attention import Attention
from llmsmc.models.caches.row_cache import RowCache, RowSelection
from llmsmc.models.caches.rows import CacheHandle, CacheRows, padded_rows
from llmsmc.models.pretrained.loading import (
    Placement,
    context_length,
    load_plain_tokenizer,
    require_embedded,
    resolve,
)
from llmsmc.models.pretrained.names import is_gguf
from llmsmc.models.rewards.calibration import require_temperature
from llmsmc.models.rewards.conventions.convention import (
    REMEMBERED,
    Convention,
    Ids,
    Layout,
    PiecewiseConvention,
)
from llmsmc.models.rewards.conventions.recognition import (
    architecture_of,
    convention_class,
    made,
    named_convention,
)
from llmsmc.models.rewards.reward import (
    READINGS,
    Reading,
    ScoringRequest,
    Solution,
    Steps,
    checked_steps,
)

MAX_POSITIONS: Final = 2**15  # positions of one forward pass; larger batches are cut up
MAX_SEEN: Final = 2**15  # rows times cached positions of one forward pass, copied a layer at a time
CALL: Final = 64  # fixed cost of a forward pass, in positions


class RewardModel:
    """A process reward model with its tokenizer and its convention.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer.
        convention: the layout that it reads and the head that it has.
        pieces: the convention, if its layout grows by a piece with each step; else None.
        name: where it came from.
        quantization: how its weights are quantised, or None.
        calibration: the temperature by which log-odds are divided (see `fit_temperature`).
        context_length: number of positions it is built for.
    """

    never_zero = True

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        convention: str | type[Convention] | None = None,
        *,
        name: str = "",
        quantization: str | None = None,
        calibration: float | int = 1.0,
        **settings: Any,
    ) -> None:
        """Take a model that is loaded already; `from_pretrained` is the usual way.

        Raises:
            InputError: the convention is unknown, or does not go with the model; the calibration
                is no temperature; the tokenizer has ids for which the model has no embedding.
        """
        require_temperature(calibration)
        self.model, self.tokenizer = model, tokenizer
        self.name, self.quantization = name or type(model).__name__, quantization
        require_embedded(tokenizer, model, self.name)
        cls = convention_class(convention, type(model).__name__, tokenizer, self.name)
        self.convention = made(cls, tokenizer, settings)
        self.pieces: PiecewiseConvention | None = None
        self.layout: Callable[[str, Steps], Layout] = self.convention.layout
        layout: object = type(self.convention).layout
        # A convention that is derived from one of ours may lay solutions out in another way.
        if (
            isinstance(self.convention, PiecewiseConvention)
            and layout is PiecewiseConvention.layout
        ):
            self.pieces = self.convention
        else:
            self.layout = lru_cache(REMEMBERED)(self.layout)
        self.calibration = calibration
        self.context_length = context_length(model.config)
        self._attention = Attention(model.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        convention: str | type[Convention] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        quantization: str | None = None,
        calibration: float | int = 1.0,
        **settings: Any,
    ) -> "RewardModel":
        """Load a model by its embedded name, its folder, or its name on the hub.

        Args:
            name_or_path: "minimath-reward", "minimath-reward-weak", a folder in the Hugging Face
                layout with safetensors weights, or a name on the hub.
            convention: the layout on which the model was trained: "qwen", "math-shepherd",
                "rlhflow", "skywork", "versa", "trl", "pqm", "pure", or a class of your own;
                None where config and tokenizer tell.
            device: by default the CUDA device if there is one, else the CPU.
            dtype: by default single precision on the CPU, else that of the checkpoint.
            quantization: None (or "none"), "int8", "nf4" or "fp4", by bitsandbytes, or
                "int8-dynamic", on processors that multiply in 8 bits.
            calibration: a temperature by which log-odds are divided.
            settings: of the convention, such as `separator=` of "trl".

        Raises:
            InputError: there is no such model, it is not one of this convention, or the
                convention cannot be recognised.
        """
        require_temperature(calibration)
        source = resolve(name_or_path)
        if is_gguf(source):
            raise InputError(
                f"A reward model is not read from a GGUF file, which has no head of one. Got "
                f"{str(name_or_path)!r}; accepted: a folder with config.json, a tokenizer and "
                "safetensors weights, a name on the Hugging Face hub, or the file as a policy."
            )
        if isinstance(convention, str):  # before anything is read
            convention = named_convention(convention)
        tokenizer = load_plain_tokenizer(source)
        placement = Placement(device, dtype, quantization)
        architecture = architecture_of(source)
        chosen = convention_class(convention, architecture, tokenizer, str(name_or_path))
        model = chosen.load(source, placement)
        placement.round_layers(model.base_model)  # and not the head
        loaded = cls(
            model,
            tokenizer,
            chosen,
            name=str(name_or_path),
            quantization=placement.quantized,
            calibration=calibration,
            **settings,
        )
        placement.warm_up(lambda: loaded.log_odds("1 + 1", ["2"]))
        return loaded

    def __repr__(self) -> str:
        """Show what the model is."""
        return f"RewardModel({self.name!r})"

    @property
    def device(self) -> torch.device:
        """The device on which the model runs."""
        device: torch.device = self.model.device
        return device

    def score(self, question: str, steps: Sequence[str]) -> list[float]:
        """Return the probability that each step is right, reading the solution in one pass.

        Raises:
            InputError: a step is blank, or the solution does not fit into the context.
        """
        return self.log_odds(question, steps).sigmoid().tolist()

    def log_odds(self, question: str, steps: Sequence[str]) -> Float64[Tensor, " K"]:
        """Return the log-odds of the scores of the K steps, reading the solution in one pass."""
        layout = self.convention.layout(question, checked_steps(steps))
        if len(layout.ids) > self.context_length:
            raise self._does_not_fit(len(layout.ids))
        if not layout.reads:
            return torch.zeros(0, dtype=torch.float64)
        ids = torch.tensor([layout.ids], device=self.device)
        with torch.no_grad():
            hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
            return self._read(hidden[list(layout.reads)])

    def prefix_ids(self, question: str) -> tuple[int, ...]:
        """Return the ids of a question, which stand before the first step."""
        ids = self.convention.layout(question, ()).ids
        if len(ids) >= self.context_length:
            raise self._does_not_fit(len(ids) + 1)
        return ids

    def check(self, question: str) -> None:
        """Raise `InputError` if the question cannot be read, or leaves no room for a step."""
        self.prefix_ids(question)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether these steps can be scored within the context."""
        return self.room_behind(question, steps, reading) >= 0

    def room_behind(
        self,
        question: str,
        steps: Steps,
        reading: Reading = "steps",
        known: tuple[Steps, int] | None = None,
    ) -> int:
        """Return how many tokens the context has room for behind the steps; see `MeasuredReward`.

        Where the layout grows by a piece with each step, only the pieces behind those of the
        `known` steps are counted.
        """
        pieces = self.pieces
        if pieces is None or reading != "steps":
            return self.context_length - len(self.ids(question, steps, reading))
        if known is None or known[0] != steps[: len(known[0])]:
            known = (), self.context_length - len(pieces.prefix_ids(question))
        return known[1] - sum(len(pieces.piece_ids(step)) for step in steps[len(known[0]) :])

    def ids(self, question: str, steps: Steps, reading: Reading) -> tuple[int, ...]:
        """Return the ids of the steps as they are read."""
        return self.layout(question, READINGS[reading](steps)).ids

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        handle: CacheHandle,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheRows, Cost]:
        """Return the log-odds of the new steps of B solutions, computing only what is new.

        Solutions that agree in all of their steps are computed once.

        Args:
            question: the question that the solutions answer.
            solutions: their steps, scored and new.
            handle: the cached rows of the scored steps; what is missing is computed again.
            reading: "steps" gives one score for each new step; "prefix" gives one for the
                whole solution, if there is something new.

        Returns:
            The log-odds of each solution, the cached rows for the next call, and the cost.
        """
        (answer,) = score_together(self, [ScoringRequest(question, solutions, handle, reading)])
        return answer

    def rewind(
        self,
        question: str,
        handle: CacheHandle,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> CacheRows:
        """Return the cached rows of the steps `after`, the first ones of the steps `before`."""
        assert isinstance(handle, CacheRows)
        if self.pieces is not None and reading == "steps":
            lengths = [self.context_length - self.room_behind(question, steps) for steps in after]
        else:
            ids = [[self.ids(question, one, reading) for one in each] for each in (before, after)]
            lengths = list(map(length_of_common_prefix, *ids))
        return handle.truncate(torch.tensor(lengths))

    def feed(
        self,
        cache: RowCache | RowSelection,
        ids: Sequence[Ids],
        reads: Sequence[Sequence[int]],
    ) -> list[list[float]]:
        """Feed new ids to the rows of `cache`; return the log-odds read at places among these."""
        fed, counts = padded_rows(ids)
        length = int((cache.lengths.cpu() + counts).max())
        if length > self.context_length:
            raise self._does_not_fit(length)
        slots, device = cache.prepare(fed.shape[1]), self.model.device
        with torch.no_grad():
            output = self.model.base_model(
                input_ids=fed.to(device),
                # Positions of padding may lie beyond the context; those are not read.
                position_ids=slots.position_ids.clamp(max=self.context_length - 1),
                attention_mask=self._attention.masks(slots),
                past_key_values=cache,
                use_cache=True,
            )
            cache.commit(counts.to(device))
            rows = [row for row, places in enumerate(reads) for _ in places]
            columns = [column for places in reads for column in places]
            if not rows:
                return [[] for _ in reads]
            flat = iter(self._read(output.last_hidden_state[rows, columns]).tolist())
        return [[next(flat) for _ in places] for places in reads]

    def _read(self, hidden: Tensor) -> Float64[Tensor, " R"]:
        """Return the log-odds that are read from hidden states."""
        log_odds: Tensor = self.convention.log_odds(self.model, hidden).double().cpu()
        if bool(log_odds.isnan().any()):
            raise NumericalError("The logits of the reward model are not numbers.")
        return log_odds / self.calibration

    def _does_not_fit(self, length: int) -> InputError:
        return InputError(
            f"The solution does not fit into the context of {self.name}, and cutting it would "
            f"change its scores. Got {length} tokens; accepted: {self.context_length} at most "
            "(fewer or shorter steps, or a reward model with a longer context)."
        )


Scores = tuple[list[list[float]], CacheRows, Cost]
"""The answer: the log-odds of each solution, the cached rows for the next call, and the cost."""


@dataclass(eq=False)
class _Work:
    """The different solutions of a request, with their caches and their scores so far.

    Attributes:
        request: the request.
        groups: for each solution of the request, its number among the different ones.
        solutions: the different solutions.
        handle: the cached rows of their scored steps.
        present: which of them have such a row.
        scores: the log-odds of the new steps of each.
        cost: the cost so far.
        cache: the rows to which new ids are fed.
        rows: the row of each in `cache`; -1 where there is none.
    """

    request: ScoringRequest
    groups: list[int]
    solutions: list[Solution]
    handle: CacheRows
    present: list[bool]
    scores: list[list[float]]
    cost: Cost = Cost()
    cache: RowCache = field(init=False)
    rows: Tensor = field(init=False)


@dataclass(frozen=True, eq=False)
class _Plan:
    """The ids that are fed to the model for one solution.

    Attributes:
        work: the request whose solution it is.
        number: the number of the solution in it.
        held: the number of its cached tokens that remain.
        ids: the ids behind these, which are fed.
        reads: the positions in `ids` at which scores are read.
    """

    work: _Work
    number: int
    held: int
    ids: Ids
    reads: Sequence[int]


def score_together(model: RewardModel, requests: Sequence[ScoringRequest]) -> list[Scores]:
    """Return the log-odds of the new steps, for any number of requests at a time.

    Solutions of a request that agree in all of their steps are computed once, each in a row of one
    cache; where the cache of the scored steps is donated, in its buffers. Each request costs what
    it would cost alone, in tokens, in calls of the model and, but for padding, in positions: a
    forward pass counts as a call of every request that takes part. The time is shared out by
    positions.
    """
    begun = time.perf_counter()
    works = [_distinct(request) for request in requests]
    batches = _batches(_plans(model, works))
    for batch in batches:  # make room before anything is fed, so that nothing is copied on the way
        width = max(len(plan.ids) for plan in batch)
        for work in {plan.work for plan in batch}:
            held = max(plan.held for plan in batch if plan.work is work)
            work.cache.reserve(held + width)
    for batch in batches:
        rows: dict[_Work, list[int]] = {}
        for plan in batch:
            rows.setdefault(plan.work, []).append(int(plan.work.rows[plan.number]))
        parts = [(work.cache, torch.tensor(numbers)) for work, numbers in rows.items()]
        cache, first = parts[0]
        is_whole = len(parts) == 1 and first.tolist() == list(range(cache.num_rows))
        log_odds = model.feed(
            cache if is_whole else RowSelection(parts),
            [plan.ids for plan in batch],
            [plan.reads for plan in batch],
        )
        width = max(len(plan.ids) for plan in batch)
        for plan, values in zip(batch, log_odds, strict=True):
            plan.work.scores[plan.number] = values
        for work in rows:
            counts = [len(plan.ids) for plan in batch if plan.work is work]
            work.cost += Cost(
                scored_tokens=sum(counts), reward_positions=len(counts) * width, model_calls=1
            )
    total = max(1, sum(work.cost.reward_positions for work in works))
    seconds = (time.perf_counter() - begun) / total
    answers = list[Scores]()
    for work in works:
        kept = work.handle
        if any(solution.new for solution in work.solutions):
            lengths = work.cache.lengths.cpu()[work.rows]
            kept = CacheRows(work.cache, work.rows, lengths.where(work.rows >= 0, 0))
        cost = work.cost + Cost(reward_seconds=seconds * work.cost.reward_positions)
        scores = [list(work.scores[group]) for group in work.groups]
        answers.append((scores, kept.take(torch.tensor(work.groups)), cost))
    return answers


def _distinct(request: ScoringRequest) -> _Work:
    """Return the different solutions of a request; of equal ones the first with a cached row."""
    handle, solutions = request.handle, request.solutions
    assert isinstance(handle, CacheRows)
    numbers: dict[Solution, int] = {}
    groups = [numbers.setdefault(solution, len(numbers)) for solution in solutions]
    present = handle.present.tolist()
    firsts: dict[int, int] = {}
    for n in sorted(range(len(groups)), key=lambda n: not present[n]):
        firsts.setdefault(groups[n], n)
    chosen = [firsts[number] for number in range(len(numbers))]
    return _Work(
        request,
        groups,
        list(numbers),
        handle.take(torch.tensor(chosen, dtype=torch.long)),
        [present[n] for n in chosen],
        [[] for _ in chosen],
    )


def _plans(model: RewardModel, works: Sequence[_Work]) -> list[_Plan]:
    """Return the ids to feed for each solution; its cached ids lie in its row then."""
    unread = [  # requests whose question has to be read again
        work
        for work in works
        if any(one.new and not held for one, held in zip(work.solutions, work.present, strict=True))
    ]
    prefixes = {work: model.prefix_ids(work.request.question) for work in unread}
    questions = RowCache(len(unread), device=model.model.device)
    if unread:
        width = max(map(len, prefixes.values()))
        model.feed(questions, list(prefixes.values()), [() for _ in unread])
        for work in unread:
            work.cost += Cost(reward_positions=width, model_calls=1)
    plans = list[_Plan]()
    for work in works:
        question, reading = work.request.question, work.request.reading
        lengths, mine = work.handle.lengths.tolist(), list[_Plan]()
        for number, solution in enumerate(work.solutions):
            if not solution.new:
                continue
            is_present = work.present[number]
            if model.pieces is not None and reading == "steps":
                pieces = [model.pieces.prefix_ids(question)]
                pieces += map(model.pieces.piece_ids, solution.scored + solution.new)
                ends = list(accumulate(map(len, pieces)))
                ids, scored = tuple(chain.from_iterable(pieces)), len(solution.scored)
                reads = tuple(end - 1 for end in ends[scored + 1 :])
                held = min(ends[scored], lengths[number]) if is_present else ends[0]
            else:
                layout = model.layout(question, READINGS[reading](solution.steps))
                ids, reads = layout.ids, layout.reads[-min(len(solution.new), len(layout.reads)) :]
                known = prefixes.get(work, ())
                if is_present:
                    known = model.ids(question, solution.scored, reading)[: lengths[number]]
                held = min(length_of_common_prefix(known, ids), reads[0])
            places = [place - held for place in reads]
            mine.append(_Plan(work, number, held, ids[held:], places))
        if mine:
            _hold(work, mine, questions, unread.index(work) if work in prefixes else -1)
        plans += mine
    return plans


def _hold(work: _Work, plans: Sequence[_Plan], questions: RowCache, row: int) -> None:
    """Put the cached tokens of each solution into a row of the cache of the request.

    Args:
        work: the request.
        plans: the ids to feed for its solutions.
        questions: the cached questions that had to be read again.
        row: the row of the question of this request among them.
    """
    handle, present = work.handle, torch.tensor(work.present)
    lengths, begun = handle.lengths.clone(), torch.zeros_like(present)
    for plan in plans:
        lengths[plan.number] = plan.held
        begun[plan.number] = not work.present[plan.number]
    work.cache = RowCache(0, device=questions.lengths.device)
    work.rows = torch.full_like(lengths, -1)
    if any(work.present):
        assert isinstance(handle.cache, RowCache)
        held = handle.rows[present]
        if handle.is_donated:
            work.cache = handle.cache.moved_out()
            work.rows[present] = work.cache.hold(held, lengths[present]).cpu()
        else:
            work.cache = RowCache.gathered([(handle.cache, held)])
            work.cache.truncate(lengths[present])
            work.rows[present] = torch.arange(len(held))
    start, count = work.cache.num_rows, int(begun.sum())
    work.rows[begun] = torch.arange(start, start + count)
    work.cache.append(questions, torch.full((count,), row), lengths[begun], start + count)


def _batches(plans: Sequence[_Plan]) -> list[list[_Plan]]:
    """Return the plans in groups of similar length, none of which exceeds the limits."""
    order = sorted(range(len(plans)), key=lambda n: len(plans[n].ids))
    lengths, batches = [len(plans[n].ids) for n in order], list[list[_Plan]]()
    for group in length_groups(lengths, CALL, MAX_POSITIONS):
        batch = [plans[n] for n in sorted(order[group.start : group.stop])]
        longest = max(plan.held for plan in batch) + lengths[group.stop - 1]
        num_parts = -(-len(batch) // max(1, MAX_SEEN // longest))
        ends = [part * len(batch) // num_parts for part in range(num_parts + 1)]
        batches += [batch[start:stop] for start, stop in pairwise(ends)]
    return batches


def length_of_common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids two texts have in common from the start on."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def length_groups(lengths: Sequence[int], call: int, most: int) -> list[range]:
    """Cut rows of ascending length into the groups that cost least.

    A group is padded to its longest row. It costs its number of rows times that length, and the
    price of a call: one group for all computes padding, a group for each length makes many calls.

    Args:
        lengths: the lengths of the rows, in ascending order.
        call: what a call costs, in positions.
        most: positions that a group may have; a longer row is a group of its own.

    Returns:
        The groups, as ranges of numbers of rows, in order.
    """
    begins = [0]  # where a group may begin: where the length changes, or one would be too large
    for row, length in enumerate(lengths, start=1):
        changes = row == len(lengths) or lengths[row] != length
        if changes or (row - begins[-1] + 1) * length > most:
            begins.append(row)
    costs, firsts = [0], list[int]()
    for last, end in enumerate(begins[1:]):
        options = list[tuple[int, int]]()
        for first in range(last, -1, -1):
            positions = (end - begins[first]) * lengths[end - 1]
            if positions > most and options:
                break
            options.append((costs[first] + call + positions, first))
        cost, first = min(options)
        costs.append(cost)
        firsts.append(first)
    groups, last = list[range](), len(firsts)
    while last:
        first = firsts[last - 1]
        groups.append(range(begins[first], begins[last]))
        last = first
    return groups[::-1]
