"""A process reward model: the probability that each step of a solution is right.

The score is that of "accepted" in the state-space model's observation. It is kept as log-odds, in
which it does not saturate.

Solutions grow, and the model's cache grows with them: only what is new is computed. A cached score
equals that of `RewardModel.score`, which reads the whole solution in one pass.

Shapes: B rows, q new tokens, D width of the hidden states.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float64, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmsmc.checks import require_choice
from llmsmc.cost import Cost
from llmsmc.errors import InputError, NumericalError
from llmsmc.models.attention import attention_masks
from llmsmc.models.cache_rows import CacheRows, Memory, join
from llmsmc.models.convention import Convention
from llmsmc.models.conventions import CONVENTIONS, convention_class, made
from llmsmc.models.pretrained import (
    Placement,
    context_length,
    load_plain_tokenizer,
    loading_errors,
    resolve,
)
from llmsmc.models.reward import READINGS, Reading, Solution, Steps, checked_steps
from llmsmc.models.row_cache import RowCache

MAX_POSITIONS: Final = 2**15  # positions of one forward pass; larger batches are cut up


@dataclass(frozen=True)
class Plan:
    """What is fed to the model for one solution.

    Attributes:
        drop: how many of the cached tokens are given up first.
        ids: what is fed.
        reads: the positions in `ids` at which scores are read.
    """

    drop: int
    ids: tuple[int, ...]
    reads: tuple[int, ...]


class RewardModel:
    """A process reward model with its tokenizer and its convention.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer.
        convention: the layout that it reads and the head that it has.
        name: where it came from.
        quantization: how its weights are quantised, or None.
        calibration: the temperature by which log-odds are divided (see `fit_temperature`).
        context_length: number of positions it is built for.
    """

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
                is no temperature.
        """
        require_temperature(calibration)
        self.model, self.tokenizer = model, tokenizer
        self.name, self.quantization = name or type(model).__name__, quantization
        cls = convention_class(convention, type(model).__name__, tokenizer, self.name)
        self.convention = made(cls, tokenizer, settings)
        self.calibration = calibration
        self.context_length = context_length(model.config)

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
            quantization: None (or "none"), "int8", "nf4" or "fp4", by bitsandbytes.
            calibration: a temperature by which log-odds are divided.
            settings: of the convention, such as `separator=` of "trl".

        Raises:
            InputError: there is no such model, it is not one of this convention, or the
                convention cannot be recognised.
        """
        require_temperature(calibration)
        source = resolve(name_or_path)
        if isinstance(convention, str):  # before anything is read
            require_choice("convention", convention, CONVENTIONS)
        tokenizer = load_plain_tokenizer(source)
        placement = Placement(device, dtype, quantization)
        architecture = architecture_of(source)
        chosen = convention_class(convention, architecture, tokenizer, str(name_or_path))
        loaded = cls(
            chosen.load(source, placement),
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
        self._check_length(len(layout.ids))
        if not layout.reads:
            return torch.zeros(0, dtype=torch.float64)
        ids = torch.tensor([layout.ids], device=self.device)
        with torch.no_grad():
            hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
            return self._read(hidden[list(layout.reads)])

    def prefix_ids(self, question: str) -> tuple[int, ...]:
        """Return the ids of what is read of a question before there is a step."""
        ids = self.convention.layout(question, ()).ids
        self._check_length(len(ids) + 1)
        return ids

    def check(self, question: str) -> None:
        """Raise `InputError` if the question cannot be read, or leaves no room for a step."""
        self.prefix_ids(question)

    def fits(self, question: str, steps: Steps, reading: Reading = "steps") -> bool:
        """Return whether these steps can be scored within the context."""
        return len(self._ids(question, steps, reading)) <= self.context_length

    def score_steps(
        self,
        question: str,
        solutions: Sequence[Solution],
        memory: Memory,
        *,
        reading: Reading = "steps",
    ) -> tuple[list[list[float]], CacheRows, Cost]:
        """Return the log-odds of the new steps of B solutions, computing only what is new.

        Solutions that agree in all of their steps are computed once.

        Args:
            question: what they answer.
            solutions: the steps, scored and new.
            memory: what is cached of the scored steps; what is missing is computed again.
            reading: "steps" gives one score for each new step; "prefix" gives one for the
                whole solution, if there is something new.

        Returns:
            The log-odds of each solution, the cached rows for the next call, and the cost.
        """
        start = time.perf_counter()
        assert isinstance(memory, CacheRows)
        firsts, which = _distinct(solutions, memory)
        scores, kept, cost = self._score_distinct(
            question, [solutions[n] for n in firsts], memory.take(torch.tensor(firsts)), reading
        )
        cost += Cost(reward_seconds=time.perf_counter() - start)
        return [list(scores[group]) for group in which], kept.take(torch.tensor(which)), cost

    def rewind(
        self,
        question: str,
        memory: Memory,
        before: Sequence[Steps],
        after: Sequence[Steps],
        reading: Reading = "steps",
    ) -> CacheRows:
        """Return what is cached of the steps `after`, the first ones of those `before`."""
        assert isinstance(memory, CacheRows)
        lengths = []
        for longer, shorter in zip(before, after, strict=True):
            ids = self._ids(question, longer, reading)
            common = len(ids)
            if longer != shorter:
                common = _length_of_common_prefix(ids, self._ids(question, shorter, reading))
            lengths.append(common)
        return memory.truncate(torch.tensor(lengths))

    def _ids(self, question: str, steps: Steps, reading: Reading) -> tuple[int, ...]:
        return self.convention.layout(question, READINGS[reading](steps)).ids

    def _score_distinct(
        self,
        question: str,
        solutions: Sequence[Solution],
        memory: CacheRows,
        reading: Reading,
    ) -> tuple[list[list[float]], CacheRows, Cost]:
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
            if not rows:
                continue
            root, prefix = None, tuple[int, ...]()
            if not cached:
                prefix = self.prefix_ids(question)
                root = self._prefill(prefix)
                cost += Cost(reward_positions=len(prefix), model_calls=1)
            plans = {}
            for n in rows:
                held = prefix
                if cached:
                    ids = self._ids(question, solutions[n].scored, reading)
                    held = ids[: int(memory.lengths[n])]
                plans[n] = self._plan(question, solutions[n], held, reading)
            for batch in _batches(plans):
                indices = torch.tensor(batch)
                cache = memory.copy(indices) if root is None else _fan_out(root, len(batch))
                log_odds, positions = self._feed(cache, [plans[n] for n in batch])
                for n, values in zip(batch, log_odds, strict=True):
                    scores[n] = values
                parts.append(CacheRows.of(cache, torch.arange(len(batch)), len(batch)))
                order.append(batch)
                scored = sum(len(plans[n].ids) for n in batch)
                cost += Cost(scored_tokens=scored, reward_positions=positions, model_calls=1)
        positions_of = torch.tensor([n for batch in order for n in batch], dtype=torch.long)
        kept = join(parts).take(positions_of.argsort()) if parts else memory
        return scores, kept, cost

    def _plan(
        self, question: str, solution: Solution, held: tuple[int, ...], reading: Reading
    ) -> Plan:
        """Return what is fed where the ids `held` are cached: what is not the same any more."""
        read = READINGS[reading](solution.steps)
        layout = self.convention.layout(question, read)
        reads = layout.reads[-min(len(solution.new), len(read)) :]
        common = min(_length_of_common_prefix(held, layout.ids), reads[0])
        return Plan(
            len(held) - common, layout.ids[common:], tuple(place - common for place in reads)
        )

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
            flat = iter(self._read(hidden).tolist())
        cache.commit(counts.to(self.device))
        return [[next(flat) for _ in plan.reads] for plan in plans], ids.numel()

    def _read(self, hidden: Tensor) -> Float64[Tensor, " R"]:
        """Return the log-odds that are read from hidden states."""
        log_odds: Tensor = self.convention.log_odds(self.model, hidden).double().cpu()
        if bool(log_odds.isnan().any()):
            raise NumericalError("The logits of the reward model are not numbers.")
        return log_odds / self.calibration

    def _hidden(self, cache: RowCache, ids: Int[Tensor, "B q"]) -> Tensor:
        """Return the hidden states of new tokens; the caller commits."""
        slots = cache.begin(ids.shape[1])
        with torch.no_grad():
            output = self.model.base_model(
                input_ids=ids.to(self.device),
                # Positions of padding may lie beyond the context; those are not read.
                position_ids=slots.position_ids.clamp(max=self.context_length - 1),
                attention_mask=attention_masks(self.model.config, slots),
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


def architecture_of(source: str) -> str:
    """Return the class of model that a checkpoint names; empty if it names none."""
    with loading_errors(source):
        config, _ = PreTrainedConfig.get_config_dict(source)
    return str(next(iter(config.get("architectures") or ()), ""))


def require_temperature(calibration: object) -> None:
    """Raise `InputError` unless log-odds can be divided by it."""
    number = isinstance(calibration, int | float) and not isinstance(calibration, bool)
    if not number or not 0 < calibration < math.inf:  # type: ignore[operator]
        raise InputError(
            f"calibration is a temperature. Got {calibration!r}; accepted: 0 < calibration < "
            "infinity."
        )
