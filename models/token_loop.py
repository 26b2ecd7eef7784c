"""The loop over tokens within one reasoning step of many particles.

Nothing in it runs once for each particle: drawing, stopping and recording are operations on whole
batches. Particles that agree in all of their tokens share a row of the batch, and are computed
once, until they draw different tokens. Rows whose particles have all stopped stay in the batch,
unchanged, until less than a part of it is active; then the active rows are gathered into a smaller
one.

Shapes: B particles, R rows, A particles that are active, L generated tokens, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from llmsmc.errors import NumericalError, ServerError
from llmsmc.models.cache_rows import CacheRows
from llmsmc.models.constraint import TokenMask
from llmsmc.models.row_cache import RowCache, concatenate
from llmsmc.models.sampling import UniformTable, invert
from llmsmc.models.stopping import EOS, LENGTH, STOP, Automaton
from llmsmc.models.thinking import ForcedTokens

# Rows that have stopped stay in the batch until fewer than this fraction are active.
MIN_ACTIVE_FRACTION: Final = 0.6

BLOCK: Final = 64  # tokens for which the records have room at first


@dataclass(frozen=True, eq=False)
class StepTokens:
    """The tokens of one step for each of B particles, as they were drawn.

    Attributes:
        token_ids: the new tokens, padded with zeros on the right.
        num_tokens: how many of them each particle has.
        log_probs: log-probabilities of the tokens at temperature 1; zero on padding.
        transition_log_probs: the same at the temperature.
        proposal_log_probs: the same under the law that was sampled, which is that of the transition
            unless a constraint restricts it.
        stop_reasons: EOS, STOP or LENGTH of `llmsmc.models.stopping`; FAILED where a server gave
            no step.
        memory: the cached rows of those that can go on (STOP); the others have none.
        error: why rows have failed, if there are any.
    """

    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    log_probs: Float64[Tensor, "B L"]
    transition_log_probs: Float64[Tensor, "B L"]
    proposal_log_probs: Float64[Tensor, "B L"]
    stop_reasons: Int[Tensor, " B"]
    memory: CacheRows
    error: ServerError | None = None


@dataclass(frozen=True)
class StepLimits:
    """What the loop needs to know besides the rows.

    Attributes:
        automaton: where a step ends.
        eos_ids: the ids that end a text.
        max_tokens: tokens of the step at which it is cut off.
        temperature: of the softmax; 0 takes the most probable token.
        mask: what tokens are drawn from, at a temperature above 0; None for all.
        forced: tokens that stand at fixed places; None for none.
    """

    automaton: Automaton
    eos_ids: tuple[int, ...]
    max_tokens: int
    temperature: float | int
    mask: TokenMask | None = None
    forced: ForcedTokens | None = None


class TokenLoop:
    """Draws one step for each of B particles; used once.

    Attributes:
        positions: positions computed so far, those of waiting rows included.
        calls: forward passes so far.
    """

    def __init__(
        self,
        forward: Callable[[RowCache, Tensor], Tensor],
        cache: RowCache,
        row_of: Int[Tensor, " B"],
        limits: StepLimits,
        uniforms: UniformTable | None,
        particles: Int[Tensor, " B"],
    ) -> None:
        """Take over `cache`, which holds all but the last token of each particle.

        Args:
            forward: returns the logits [R, V] behind new ids [R, 1], without committing.
            cache: ours from now on.
            row_of: the row of each particle; those that share one agree in all tokens.
            limits: when to stop, and the temperature.
            uniforms: the random numbers; not needed at temperature 0.
            particles: number of each particle in `uniforms` and in error messages.
        """
        device, num_particles = cache.lengths.device, len(row_of)
        self._forward, self._cache, self._limits = forward, cache, limits
        self._uniforms, self._particles = uniforms, particles.to(device)
        self._row_of = row_of.to(device)
        self._cached = cache.lengths[self._row_of]
        # The record of what is drawn.
        self._ids = torch.zeros((num_particles, BLOCK), dtype=torch.long, device=device)
        self._raw = torch.zeros((num_particles, BLOCK), dtype=torch.float64, device=device)
        self._transition, self._proposal = self._raw.clone(), self._raw.clone()
        self._num_tokens = torch.zeros(num_particles, dtype=torch.long, device=device)
        self._reasons = torch.zeros(num_particles, dtype=torch.long, device=device)
        # What was set aside: particles that will go on later, their rows, and the cache of these.
        self._waiting: list[tuple[Tensor, Tensor, RowCache]] = []
        self._is_aside = torch.zeros(num_particles, dtype=torch.bool, device=device)
        self.positions = self.calls = 0

    def run(
        self,
        last_ids: Int[Tensor, " B"],
        room: Int[Tensor, " B"],
        step: int,
        mask_states: Int[Tensor, " B"] | None = None,
        starts: Tensor | None = None,
    ) -> StepTokens:
        """Draw tokens until every particle has stopped.

        Args:
            last_ids: the last id of each particle, which is not in the cache yet.
            room: how many tokens each particle may still have.
            step: number of the step, for error messages.
            mask_states: the state of each particle in the mask, if there is one.
            starts: the state of the rule with which the step of each particle begins; None for the
                one that all steps begin with.

        Raises:
            NumericalError: a logit is NaN.
        """
        automaton, mask, num_drawn = self._limits.automaton, self._limits.mask, 0
        self._reasons[room <= 0] = LENGTH
        active = (room > 0).nonzero().squeeze(1)
        states = automaton.start(len(active)) if starts is None else starts[active]
        last, forced = last_ids[active], self._limits.forced
        masked = None if mask_states is None else mask_states[active]
        while len(active):
            logits = self._next_logits(active, last)
            rows = self._row_of[active]
            last, raw, *laws = self._draw(logits, rows, active, num_drawn, masked)
            self._check(active[raw.isnan()], step)
            if forced is not None:
                last, (raw, *laws) = forced.replace(active, num_drawn, last, [raw, *laws])
            self._write(num_drawn, active, last, raw, *laws)
            num_drawn += 1
            states = automaton.advance(states, last)
            if mask is not None and masked is not None:
                masked = mask.automaton.advance(masked, last)
            complete = automaton.complete(states)
            reasons = self._stop_reasons(last, complete, num_drawn, room[active])
            self._reasons[active] = reasons
            going_on = reasons == 0
            active, states, last = active[going_on], states[going_on], last[going_on]
            masked = None if masked is None else masked[going_on]
        self._set_aside(is_last=True)
        return self._result(num_drawn)

    def _next_logits(
        self, active: Int[Tensor, " A"], last: Int[Tensor, " A"]
    ) -> Float[Tensor, "R V"]:
        """Feed the last id of each active particle, once where several agree."""
        vocab_size = self._limits.automaton.vocab_size
        pairs, which = torch.unique(self._row_of[active] * vocab_size + last, return_inverse=True)
        parents, ids = pairs // vocab_size, pairs % vocab_size
        # The first of the different ids behind a row goes on in it, the others in copies.
        is_first = parents.diff(prepend=parents[:1] - 1) != 0
        rows = parents.clone()
        rows[~is_first] = self._cache.num_rows + torch.arange(
            int((~is_first).sum()), device=rows.device
        )
        self._cache.fork(parents[~is_first])
        self._row_of[active] = rows[which]
        if len(rows) < MIN_ACTIVE_FRACTION * self._cache.num_rows:
            self._set_aside()
            self._cache.reorder_cache(rows)
            self._row_of[active] = which
            rows = torch.arange(len(rows), device=rows.device)
        fed = torch.zeros(self._cache.num_rows, dtype=torch.long, device=rows.device)
        fed[rows] = ids
        logits = self._forward(self._cache, fed[:, None])
        self._cache.commit(torch.zeros_like(fed).index_fill(0, rows, 1))
        self.positions, self.calls = self.positions + len(fed), self.calls + 1
        return logits

    def _draw(
        self,
        logits: Float[Tensor, "R V"],
        rows: Int[Tensor, " A"],
        active: Int[Tensor, " A"],
        index: int,
        mask_states: Int[Tensor, " A"] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the drawn ids, and their log-probabilities: raw, tempered and as sampled."""
        logits = logits.float()
        raw = logits.log_softmax(-1)
        if self._limits.temperature == 0:
            ids = raw.argmax(-1)[rows]
            certain = torch.zeros_like(ids, dtype=torch.float64)
            return ids, raw[rows, ids].double(), certain, certain
        assert self._uniforms is not None
        law = raw
        if self._limits.temperature != 1:
            law = (logits / self._limits.temperature).log_softmax(-1)
        tempered = law
        if self._limits.mask is not None and mask_states is not None:
            # Particles that share a row agree in their tokens, and so in their states.
            of_rows = torch.zeros_like(logits[:, 0], dtype=torch.long)
            of_rows[rows] = mask_states
            law = self._limits.mask.restrict(tempered, of_rows)
        numbers = self._uniforms.column(index)[self._particles[active].cpu()]
        ids = invert(law, numbers.to(law.device), rows)
        found = [values[rows, ids].double() for values in (raw, tempered, law)]
        return ids, found[0], found[1], found[2]

    def _check(self, broken: Int[Tensor, " K"], step: int) -> None:
        if len(broken):
            raise NumericalError(
                "The logits of the language model are not numbers for particle "
                f"{int(self._particles[broken[0]])} at step {step}."
            )

    def _stop_reasons(
        self, ids: Tensor, complete: Tensor, num_drawn: int, room: Tensor
    ) -> Int[Tensor, " A"]:
        """Return why each particle stops after so many tokens, 0 where it does not.

        A complete step that has used up the room for the whole text is cut off all the same.
        """
        full = room <= num_drawn
        reasons = LENGTH * (full | (num_drawn >= self._limits.max_tokens))
        reasons = torch.where(complete & ~full, STOP, reasons)
        ended = torch.zeros_like(full)
        for eos_id in self._limits.eos_ids:
            ended |= ids == eos_id
        return torch.where(ended, EOS, reasons)

    def _write(
        self, index: int, active: Tensor, ids: Tensor, raw: Tensor, tempered: Tensor, law: Tensor
    ) -> None:
        if index >= self._ids.shape[1]:
            extra = (0, self._ids.shape[1])  # doubled, so that a token costs no copy
            self._ids = torch.nn.functional.pad(self._ids, extra)
            self._raw = torch.nn.functional.pad(self._raw, extra)
            self._transition = torch.nn.functional.pad(self._transition, extra)
            self._proposal = torch.nn.functional.pad(self._proposal, extra)
        self._ids[active, index] = ids
        self._raw[active, index] = raw
        self._transition[active, index] = tempered
        self._proposal[active, index] = law
        self._num_tokens[active] += 1

    def _set_aside(self, *, is_last: bool = False) -> None:
        """Keep the rows of those particles that have stopped and will go on later.

        The last time they need no copy, if they are all that there is; before that, others may
        still go on in the same rows.
        """
        particles = ((self._reasons == STOP) & ~self._is_aside).nonzero().squeeze(1)
        if len(particles):
            rows, which = torch.unique(self._row_of[particles], return_inverse=True)
            everything = is_last and len(rows) == self._cache.num_rows
            cache = self._cache if everything else self._cache.select(rows)
            self._waiting.append((particles, which, cache))
            self._is_aside[particles] = True

    def _result(self, num_drawn: int) -> StepTokens:
        memory = CacheRows.none(len(self._reasons))
        if self._waiting:
            rows, num_rows = memory.rows.clone(), 0
            for particles, which, cache in self._waiting:
                rows[particles.cpu()] = num_rows + which.cpu()
                num_rows += cache.num_rows
            # A row may go on behind what is a particle's own.
            lengths = torch.where(rows >= 0, (self._cached + self._num_tokens).cpu(), 0)
            memory = CacheRows(concatenate([c for _, _, c in self._waiting]), rows, lengths)
        return StepTokens(
            token_ids=self._ids[:, :num_drawn].cpu(),
            num_tokens=self._num_tokens.cpu(),
            log_probs=self._raw[:, :num_drawn].cpu(),
            transition_log_probs=self._transition[:, :num_drawn].cpu(),
            proposal_log_probs=self._proposal[:, :num_drawn].cpu(),
            stop_reasons=self._reasons.cpu(),
            memory=memory,
        )
