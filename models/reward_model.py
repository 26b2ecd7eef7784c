"""A process reward model: the probability that each step of a solution is right.

The score is that of "accepted" in the state-space model's observation. It is kept as log-odds, in
which it does not saturate.

Solutions grow, and the model's cache grows with them: only what is new is computed. A cached score
equals that of `RewardModel.score`, which reads the whole solution in one pass.

Shapes: B rows, q new tokens, D width of the hidden states.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from jaxtyping import Float64, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llmsmc.checks import require_choice
from llmsmc.cost import Cost
from llmsmc.errors import InputError, NumericalError
from llmsmc.models.cache_rows import CacheRows, join
from llmsmc.models.pretrained import Placement, context_length, load_tokenizer, resolve
from llmsmc.models.qwen_convention import QwenConvention
from llmsmc.models.row_cache import RowCache

CONVENTIONS: Final = {"qwen": QwenConvention}

Reading = Literal["steps", "prefix"]
"""What a score is of: each step, read at its own marker; or the whole solution so far, read at a
single marker behind it."""

MAX_POSITIONS: Final = 2**15  # positions of one forward pass; larger batches are cut up


@dataclass(frozen=True)
class Solution:
    """The steps of one solution: those that are scored already, and those that are not.

    No step is blank. With nothing new, nothing is computed.
    """

    scored: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is fed to the model for one solution.

    Attributes:
        drop: how many of the cached tokens are given up first.
        ids: what is fed.
        reads: the positions in `ids` at which scores are read.
        keep: how many of `ids` stay in the cache.
    """

    drop: int
    ids: tuple[int, ...]
    reads: tuple[int, ...]
    keep: int


class RewardModel:
    """A process reward model with its tokenizer and its convention.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer.
        convention: the layout that it reads and the head that it has.
        name: where it came from.
        context_length: number of positions it is built for.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        convention: str = "qwen",
        *,
        name: str = "",
    ) -> None:
        """Take a model that is loaded already; `from_pretrained` is the usual way."""
        require_choice("convention", convention, CONVENTIONS)
        self.model, self.tokenizer = model, tokenizer
        self.convention = CONVENTIONS[convention](tokenizer)
        self.name = name or type(model).__name__
        self.context_length = context_length(model.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        convention: str = "qwen",
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        quantization: str | None = None,
    ) -> "RewardModel":
        """Load a model by its embedded name, its folder, or its name on the hub.

        Args:
            name_or_path: "minimath-reward", "minimath-reward-weak", a folder in the Hugging Face
                layout with safetensors weights, or a name on the hub.
            convention: the layout on which the model was trained.
            device: by default the CUDA device if there is one, else the CPU.
            dtype: by default single precision on the CPU, else that of the checkpoint.
            quantization: None (or "none"), "int8", "nf4" or "fp4", by bitsandbytes.

        Raises:
            InputError: there is no such model, or it is not one of this convention.
        """
        require_choice("convention", convention, CONVENTIONS)
        source = resolve(name_or_path)
        tokenizer = load_tokenizer(source)
        placement = Placement(device, dtype, quantization)
        model = CONVENTIONS[convention].load(source, placement)
        loaded = cls(model, tokenizer, convention, name=str(name_or_path))
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
        steps = _checked_steps(steps)
        prefix = self.prefix_ids(question)
        if not steps:
            return torch.zeros(0, dtype=torch.float64)
        plan = _plan_steps(self.convention, Solution((), steps))
        ids = torch.tensor([prefix + plan.ids], device=self.device)
        self._check_length(ids.shape[1])
        with torch.no_grad():
            hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state[0]
            marked = hidden[ids[0] == self.convention.marker_id]
            if len(marked) != len(steps):
                raise InputError(
                    f"Each step has one marker. Got {len(marked)} markers for {len(steps)} steps; "
                    "accepted: a question and steps without the marker."
                )
            log_odds = self.convention.log_odds(self.model, marked).double().cpu()
        return _checked_scores(log_odds)

    def prefix_ids(self, question: str) -> tuple[int, ...]:
        """Return the ids of everything that stands before the first step."""
        ids = self.convention.prefix_ids(question)
        self._check_length(len(ids) + 1)
        return ids

    def fits(
        self, prefix_ids: tuple[int, ...], steps: Sequence[str], reading: Reading = "steps"
    ) -> bool:
        """Return whether these steps can be scored within the context."""
        fed = _PLANS[reading](self.convention, Solution((), tuple(steps))).ids if steps else ()
        return len(prefix_ids) + len(fed) <= self.context_length

    def score_steps(
        self,
        prefix_ids: tuple[int, ...],
        solutions: Sequence[Solution],
        memory: CacheRows,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheRows, Cost]:
        """Return the log-odds of the new steps of B solutions, computing only what is new.

        Solutions that agree in all of their steps are computed once.

        Args:
            prefix_ids: what stands before the first step, common to all.
            solutions: the steps, scored and new.
            memory: what is cached of the scored steps; what is missing is computed again.
            reading: "steps" gives one score for each new step; "prefix" gives one for the
                whole solution, if there is something new.

        Returns:
            The log-odds of each solution, the cached rows for the next call, and the cost.
        """
        start = time.perf_counter()
        firsts, which = _distinct(solutions, memory)
        scores, kept, cost = self._score_distinct(
            prefix_ids, [solutions[n] for n in firsts], memory.take(torch.tensor(firsts)), reading
        )
        cost += Cost(reward_seconds=time.perf_counter() - start)
        return [list(scores[group]) for group in which], kept.take(torch.tensor(which)), cost

    def _score_distinct(
        self,
        prefix_ids: tuple[int, ...],
        solutions: Sequence[Solution],
        memory: CacheRows,
        reading: Reading,
    ) -> tuple[list[list[float]], CacheRows, Cost]:
        plan = _PLANS[reading]
        scores: list[list[float]] = [[] for _ in solutions]
        parts, order = [], []
        cost = Cost()
        unchanged = [n for n, solution in enumerate(solutions) if not solution.new]
        if unchanged:
            parts, order = [memory.take(torch.tensor(unchanged))], [unchanged]
        for cached in (True, False):
            rows = [
                n
                for n, solution in enumerate(solutions)
                if solution.new and bool(memory.present[n]) == cached
            ]
            plans = {
                n: plan(self.convention, solutions[n] if cached else _from_start(solutions[n]))
                for n in rows
            }
            root = None if cached or not rows else self._prefill(prefix_ids)
            if root is not None:
                cost += Cost(reward_positions=len(prefix_ids), model_calls=1)
            for batch in _batches(plans):
                indices = torch.tensor(batch)
                cache = memory.copy(indices) if root is None else _fan_out(root, len(batch))
                log_odds, positions = self._feed(cache, [plans[n] for n in batch])
                for n, values in zip(batch, log_odds, strict=True):
                    scores[n] = values[-len(solutions[n].new) :]
                parts.append(CacheRows.of(cache, torch.arange(len(batch)), len(batch)))
                order.append(batch)
                scored = sum(len(plans[n].ids) for n in batch)
                cost += Cost(scored_tokens=scored, reward_positions=positions, model_calls=1)
        positions_of = torch.tensor([n for batch in order for n in batch], dtype=torch.long)
        kept = join(parts).take(positions_of.argsort()) if parts else memory
        return scores, kept, cost

    def kept_length(self, prefix_ids: tuple[int, ...], steps: Sequence[str]) -> int:
        """Return how many tokens are cached of a solution of which these steps are scored."""
        return len(prefix_ids) + len(_plan_steps(self.convention, Solution((), tuple(steps))).ids)

    def _prefill(self, prefix_ids: tuple[int, ...]) -> RowCache:
        cache = RowCache(1, device=self.device)
        self._hidden(cache, torch.tensor([prefix_ids]))
        cache.commit(len(prefix_ids))
        return cache

    def _feed(self, cache: RowCache, plans: Sequence[Plan]) -> tuple[list[list[float]], int]:
        """Carry out the plans on the rows of our own `cache`; also the number of positions."""
        cache.truncate(cache.lengths - torch.tensor([p.drop for p in plans], device=self.device))
        counts = torch.tensor([len(plan.ids) for plan in plans])
        self._check_length(int((cache.lengths.cpu() + counts).max()))
        ids = torch.zeros((len(plans), int(counts.max())), dtype=torch.long)
        for row, plan in enumerate(plans):
            ids[row, : len(plan.ids)] = torch.tensor(plan.ids)
        rows = torch.tensor([row for row, plan in enumerate(plans) for _ in plan.reads])
        columns = torch.tensor([column for plan in plans for column in plan.reads])
        hidden = self._hidden(cache, ids)[rows.to(self.device), columns.to(self.device)]
        with torch.no_grad():
            values = self.convention.log_odds(self.model, hidden).double().cpu()
        cache.commit(torch.tensor([plan.keep for plan in plans], device=self.device))
        flat = iter(_checked_scores(values).tolist())
        return [[next(flat) for _ in plan.reads] for plan in plans], ids.numel()

    def _hidden(self, cache: RowCache, ids: Int[Tensor, "B q"]) -> Tensor:
        """Return the hidden states of new tokens; the caller commits."""
        slots = cache.begin(ids.shape[1])
        with torch.no_grad():
            output = self.model.model(
                input_ids=ids.to(self.device),
                # Positions of padding may lie beyond the context; those are not read.
                position_ids=slots.position_ids.clamp(max=self.context_length - 1),
                attention_mask=slots.attention_mask,
                past_key_values=cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _check_length(self, length: int) -> None:
        if length > self.context_length:
            raise InputError(
                f"The solution does not fit into the context of {self.name}, and cutting it would "
                f"change its scores. Got {length} tokens; accepted: {self.context_length} at most "
                "(fewer or shorter steps, or a reward model with a longer context)."
            )


def _plan_steps(convention: QwenConvention, solution: Solution) -> Plan:
    """Each new step and its marker, appended to what is there; read at every marker."""
    ids: list[int] = []
    reads: list[int] = []
    for step in solution.new:
        ids += [*convention.step_ids(step.strip()), convention.marker_id]
        reads.append(len(ids) - 1)
    return Plan(0, tuple(ids), tuple(reads), keep=len(ids))


def _plan_prefix(convention: QwenConvention, solution: Solution) -> Plan:
    """The whole solution as one step, with its own separators and one marker, read there.

    The marker is given up after reading. So is the end of the step before, as far as its ids
    change when the separator behind it is there.
    """
    first, *others = solution.scored + solution.new
    steps = [first.lstrip(), *others][max(len(solution.scored) - 1, 0) :]
    drop, ids = 0, list[int]()
    if solution.scored:
        ended, continued = convention.step_ids(steps[0].rstrip()), convention.step_ids(steps[0])
        common = _length_of_common_prefix(ended, continued)
        drop, ids = len(ended) - common, list(continued[common:])
        steps = steps[1:]
    for step in steps[:-1]:
        ids += convention.step_ids(step)
    ids += [*convention.step_ids(steps[-1].rstrip()), convention.marker_id]
    return Plan(drop, tuple(ids), (len(ids) - 1,), keep=len(ids) - 1)


_PLANS: Final = {"steps": _plan_steps, "prefix": _plan_prefix}


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


def _from_start(solution: Solution) -> Solution:
    """The same with nothing cached."""
    return Solution((), solution.scored + solution.new)


def _length_of_common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _fan_out(root: RowCache, num_rows: int) -> RowCache:
    return root.select(torch.zeros(num_rows, dtype=torch.long))


def _batches(plans: dict[int, Plan]) -> Iterator[list[int]]:
    """Yield the rows in groups of similar length, none of which exceeds `MAX_POSITIONS`."""
    batch: list[int] = []
    for n in sorted(plans, key=lambda n: (len(plans[n].ids), n)):
        if batch and (len(batch) + 1) * len(plans[n].ids) > MAX_POSITIONS:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def _checked_steps(steps: Sequence[str]) -> tuple[str, ...]:
    if isinstance(steps, str) or not all(isinstance(step, str) for step in steps):
        raise InputError(f"steps is a list of texts. Got {steps!r}; accepted: a list of strings.")
    for index, step in enumerate(steps):
        if not step.strip():
            raise InputError(f"A blank step has no score. Got {step!r} as step {index}.")
    return tuple(steps)


def _checked_scores(log_odds: Float64[Tensor, " R"]) -> Float64[Tensor, " R"]:
    if bool(log_odds.isnan().any()):
        raise NumericalError("The logits of the reward model are not numbers.")
    return log_odds
