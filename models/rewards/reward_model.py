"""A process reward model: the probability that each step of a solution is right.

The score is that of "accepted" in the state-space model's observation. It is kept as log-odds, in
which it does not saturate.

Solutions grow, and the model's cache grows with them: only what is new is computed. A cached score
equals that of `RewardModel.score`, which reads the whole solution in one pass.

Shapes: B rows, q new tokens, D width of the hidden states.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmsmc.core.cost import Cost
from llmsmc.errors import InputError, NumericalError
from llmsmc.models.caches.attention import Attention
from llmsmc.models.caches.row_cache import CacheRows, Memory, RowCache, RowSelection, padded_rows
from llmsmc.models.pretrained.loading import (
    Placement,
    context_length,
    load_plain_tokenizer,
    loading_errors,
    require_embedded,
    resolve,
)
from llmsmc.models.rewards.conventions.convention import Convention
from llmsmc.models.rewards.conventions.recognition import convention_class, made, named_convention
from llmsmc.models.rewards.reward import READINGS, Reading, Solution, Steps, checked_steps
from llmsmc.models.rewards.reward_batch import (
    ScoringRequest,
    length_of_common_prefix,
    score_together,
)


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
            convention = named_convention(convention)
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
        return len(self.ids(question, steps, reading)) <= self.context_length

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
        (answer,) = score_together(self, [ScoringRequest(question, solutions, memory, reading)])
        return answer

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
            ids = self.ids(question, longer, reading)
            common = len(ids)
            if longer != shorter:
                common = length_of_common_prefix(ids, self.ids(question, shorter, reading))
            lengths.append(common)
        return memory.truncate(torch.tensor(lengths))

    def ids(self, question: str, steps: Steps, reading: Reading) -> tuple[int, ...]:
        """Return the ids of the steps as they are read."""
        return self.convention.layout(question, READINGS[reading](steps)).ids

    def feed(
        self,
        cache: RowCache | RowSelection,
        ids: Sequence[tuple[int, ...]],
        reads: Sequence[tuple[int, ...]],
    ) -> list[list[float]]:
        """Feed new ids to the rows of `cache`; return the log-odds read at places among these."""
        fed, counts = padded_rows(ids)
        self._check_length(int((cache.lengths.cpu() + counts).max()))
        hidden = self._hidden(cache, fed)
        cache.commit(counts.to(self.device))
        rows = torch.tensor([row for row, places in enumerate(reads) for _ in places])
        columns = torch.tensor([column for places in reads for column in places])
        if not len(rows):
            return [[] for _ in reads]
        with torch.no_grad():
            flat = iter(self._read(hidden[rows.to(self.device), columns.to(self.device)]).tolist())
        return [[next(flat) for _ in places] for places in reads]

    def _read(self, hidden: Tensor) -> Float64[Tensor, " R"]:
        """Return the log-odds that are read from hidden states."""
        log_odds: Tensor = self.convention.log_odds(self.model, hidden).double().cpu()
        if bool(log_odds.isnan().any()):
            raise NumericalError("The logits of the reward model are not numbers.")
        return log_odds / self.calibration

    def _hidden(self, cache: RowCache | RowSelection, ids: Int[Tensor, "B q"]) -> Tensor:
        """Return the hidden states of new tokens; the caller commits."""
        slots = cache.prepare(ids.shape[1])
        with torch.no_grad():
            output = self.model.base_model(
                input_ids=ids.to(self.device),
                # Positions of padding may lie beyond the context; those are not read.
                position_ids=slots.position_ids.clamp(max=self.context_length - 1),
                attention_mask=self._attention.masks(slots),
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
