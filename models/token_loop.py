"""The loop over tokens within one reasoning step of many particles.

Nothing in it runs once for each particle: drawing, stopping and recording are operations on whole
batches. Rows that stop early stay in the batch, unchanged, until less than a part of it is active;
then the active rows are gathered into a smaller one.

Shapes: B rows, L generated tokens, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from llmsmc.errors import NumericalError
from llmsmc.models.cache_rows import CacheRows
from llmsmc.models.row_cache import RowCache, concatenate
from llmsmc.models.sampling import UniformTable, invert
from llmsmc.models.stopping import EOS, LENGTH, STOP, StepAutomaton

# Rows that have stopped stay in the batch until fewer than this fraction are active.
MIN_ACTIVE_FRACTION: Final = 0.6

BLOCK: Final = 64  # tokens for which the records have room at first


@dataclass(frozen=True, eq=False)
class StepTokens:
    """The tokens of one step for each of B rows, as they were drawn.

    Attributes:
        token_ids: the new tokens, padded with zeros on the right.
        num_tokens: how many of them each row has.
        log_probs: log-probabilities of the tokens at temperature 1; zero on padding.
        proposal_log_probs: the same under the law that was sampled.
        stop_reasons: EOS, STOP or LENGTH of `llmsmc.models.stopping`.
        memory: the cached rows of those that can go on (STOP); the others have none.
    """

    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    log_probs: Float64[Tensor, "B L"]
    proposal_log_probs: Float64[Tensor, "B L"]
    stop_reasons: Int[Tensor, " B"]
    memory: CacheRows


@dataclass(frozen=True)
class StepLimits:
    """What the loop needs to know besides the rows.

    Attributes:
        automaton: where a step ends.
        eos_ids: the ids that end a text.
        max_tokens: tokens of the step at which it is cut off.
        temperature: of the softmax; 0 takes the most probable token.
    """

    automaton: StepAutomaton
    eos_ids: tuple[int, ...]
    max_tokens: int
    temperature: float | int


class TokenLoop:
    """Draws one step for each of B rows; used once.

    Attributes:
        positions: positions computed so far, those of waiting rows included.
        calls: forward passes so far.
    """

    def __init__(
        self,
        forward: Callable[[RowCache, Tensor], Tensor],
        cache: RowCache,
        limits: StepLimits,
        uniforms: UniformTable | None,
        particles: Int[Tensor, " B"],
    ) -> None:
        """Take over `cache`, which holds all but the last token of each of B rows.

        Args:
            forward: returns the logits [B, V] behind new ids [B, 1], without committing.
            cache: ours from now on.
            limits: when to stop, and the temperature.
            uniforms: the random numbers; not needed at temperature 0.
            particles: number of each row in `uniforms` and in error messages.
        """
        device, num_rows = cache.lengths.device, cache.num_rows
        self._forward, self._cache, self._limits = forward, cache, limits
        self._uniforms, self._particles = uniforms, particles
        # The record of what is drawn, one row for each of the B rows.
        self._ids = torch.zeros((num_rows, BLOCK), dtype=torch.long, device=device)
        self._raw = torch.zeros((num_rows, BLOCK), dtype=torch.float64, device=device)
        self._proposal = self._raw.clone()
        self._num_tokens = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._reasons = torch.zeros(num_rows, dtype=torch.long, device=device)
        # The working batch: row numbers of the rows in it; what was set aside, with row numbers.
        self._rows = torch.arange(num_rows, device=device)
        self._waiting: list[tuple[Tensor, RowCache]] = []
        self.positions = self.calls = 0

    def run(self, last_ids: Int[Tensor, " B"], room: Int[Tensor, " B"], step: int) -> StepTokens:
        """Draw tokens until every row has stopped.

        Args:
            last_ids: the last id of each row, which is not in the cache yet.
            room: how many tokens each row may still have in all.
            step: number of the step, for error messages.

        Raises:
            NumericalError: a logit is NaN.
        """
        automaton, num_drawn = self._limits.automaton, 0
        states = automaton.start(len(self._rows))
        active = room > 0
        self._reasons[~active] = LENGTH
        while (num_active := int(active.sum())) > 0:
            if num_active < MIN_ACTIVE_FRACTION * len(active):
                self._set_aside(~active)
                last_ids, room, states = last_ids[active], room[active], states[active]
                active = active[active]
            logits = self._forward(self._cache, last_ids[:, None])
            self._cache.commit(active.long())
            self.positions, self.calls = self.positions + len(active), self.calls + 1
            ids, raw, proposal = self._draw(logits, num_drawn)
            self._check(raw.isnan() & active, step)
            self._write(num_drawn, active, ids, raw, proposal)
            num_drawn += 1
            states = torch.where(active, automaton.advance(states, ids), states)
            reasons = self._stop_reasons(ids, automaton.complete(states), num_drawn, room)
            self._reasons[self._rows] = torch.where(active, reasons, self._reasons[self._rows])
            last_ids = torch.where(active, ids, last_ids)
            active = active & (reasons == 0)
        self._set_aside(torch.ones_like(active))
        return self._result(num_drawn)

    def _draw(self, logits: Float[Tensor, "B V"], index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the drawn ids and their log-probabilities, raw and under the law sampled."""
        logits = logits.float()
        raw = logits.log_softmax(-1)
        if self._limits.temperature == 0:
            ids = raw.argmax(-1)
            return ids, _at(raw, ids), torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
        assert self._uniforms is not None
        law = raw
        if self._limits.temperature != 1:
            law = (logits / self._limits.temperature).log_softmax(-1)
        numbers = self._uniforms.column(index)[self._particles[self._rows.cpu()]]
        ids = invert(law, numbers.to(law.device))
        return ids, _at(raw, ids), _at(law, ids)

    def _check(self, broken: Bool[Tensor, " B"], step: int) -> None:
        if bool(broken.any()):
            particle = int(self._particles[int(self._rows[broken][0])])
            raise NumericalError(
                "The logits of the language model are not numbers for particle "
                f"{particle} at step {step}."
            )

    def _stop_reasons(
        self, ids: Tensor, complete: Tensor, num_drawn: int, room: Tensor
    ) -> Int[Tensor, " B"]:
        """Return why each row stops after so many tokens, 0 where it does not.

        A complete step that has used up the room for the whole text is cut off all the same.
        """
        full = room <= num_drawn
        reasons = LENGTH * (full | (num_drawn >= self._limits.max_tokens))
        reasons = torch.where(complete & ~full, STOP, reasons)
        ended = torch.zeros_like(full)
        for eos_id in self._limits.eos_ids:
            ended |= ids == eos_id
        return torch.where(ended, EOS, reasons)

    def _write(self, index: int, active: Tensor, ids: Tensor, raw: Tensor, law: Tensor) -> None:
        if index >= self._ids.shape[1]:
            extra = (0, self._ids.shape[1])  # doubled, so that a token costs no copy
            self._ids = torch.nn.functional.pad(self._ids, extra)
            self._raw = torch.nn.functional.pad(self._raw, extra)
            self._proposal = torch.nn.functional.pad(self._proposal, extra)
        self._ids[self._rows, index] = torch.where(active, ids, 0)
        self._raw[self._rows, index] = torch.where(active, raw, 0.0)
        self._proposal[self._rows, index] = torch.where(active, law, 0.0)
        self._num_tokens[self._rows] += active

    def _set_aside(self, stopped: Bool[Tensor, " B"]) -> None:
        """Take the stopped rows out of the working batch; keep those that will go on later."""
        going_on = stopped & (self._reasons[self._rows] == STOP)
        if bool(going_on.any()):
            indices = going_on.nonzero().squeeze(1)
            everything = len(indices) == len(self._rows)
            cache = self._cache if everything else self._cache.select(indices)
            self._waiting.append((self._rows[indices], cache))
        remaining = (~stopped).nonzero().squeeze(1)
        if len(remaining):
            self._cache.reorder_cache(remaining)
        self._rows = self._rows[remaining]

    def _result(self, num_drawn: int) -> StepTokens:
        cache, owners = None, torch.zeros(0, dtype=torch.long)
        if self._waiting:
            cache = concatenate([cache for _, cache in self._waiting])
            owners = torch.cat([numbers for numbers, _ in self._waiting]).cpu()
        return StepTokens(
            token_ids=self._ids[:, :num_drawn].cpu(),
            num_tokens=self._num_tokens.cpu(),
            log_probs=self._raw[:, :num_drawn].cpu(),
            proposal_log_probs=self._proposal[:, :num_drawn].cpu(),
            stop_reasons=self._reasons.cpu(),
            memory=CacheRows.of(cache, owners, len(self._reasons)),
        )


def _at(log_probs: Float[Tensor, "B V"], ids: Int[Tensor, " B"]) -> Float64[Tensor, " B"]:
    return log_probs.gather(-1, ids[:, None]).squeeze(-1).double()
