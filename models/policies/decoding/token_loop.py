"""The loop over tokens in which a language model draws steps, for any number of requests at a time.

Requests join between two tokens and leave when all of their particles have stopped; none waits for
another one. Nothing in the loop runs once for each particle: drawing, stopping and recording are
operations on the whole batch. Particles of a request that agree in all of their tokens share a row
of the batch, and are computed once, until they draw different tokens. Rows whose particles have all
stopped stay in the batch, unchanged, until less than a part of it is active; then they wait behind
the others, and do not take part any more.

What a particle draws depends on its own tokens and random numbers alone.

Shapes: B particles of one request, R rows, A particles that are active, V vocabulary.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from llmsmc.errors import NumericalError
from llmsmc.models.caches.row_cache import CacheRows, RowCache
from llmsmc.models.policies.decoding.batch_rows import BatchRows
from llmsmc.models.policies.decoding.loop_members import Entry, Member, StepLaw
from llmsmc.models.policies.decoding.particle_slots import FREE, ParticleSlots
from llmsmc.models.policies.decoding.requests import CHUNK, StepTokens
from llmsmc.models.text.stopping import EOS, LENGTH, STOP
from llmsmc.models.text.thinking import put_forced

# Rows that have stopped stay in the batch until fewer than this fraction are active.
MIN_ACTIVE_FRACTION: Final = 0.8


class TokenLoop:
    """Draws steps, a token of each active particle at a time."""

    def __init__(
        self,
        forward: Callable[[RowCache, Tensor], Tensor],
        eos_ids: Sequence[int],
        device: torch.device,
    ) -> None:
        """Make a loop that nobody has joined yet.

        Args:
            forward: returns the logits [R, V] behind new ids [R, 1], without committing.
            eos_ids: the ids that end a text.
            device: where the model runs.
        """
        self._forward, self._device = forward, device
        self._eos_ids = torch.tensor(eos_ids, dtype=torch.long, device=device)
        self._slots = ParticleSlots(device)
        self._rows = BatchRows(self._slots, device)
        self._active = torch.zeros(0, dtype=torch.long, device=device)
        self._members: dict[int, Member] = {}
        self._is_complete = False  # some request may be

    @property
    def num_rows(self) -> int:
        """How many rows are in the batch."""
        return len(self._rows)

    def join(self, entry: Entry) -> Member:
        """Let a request take part from the next token on."""
        owner = next(n for n in range(len(self._members) + 1) if n not in self._members)
        slots, row_of = self._slots.take(len(entry.row_of)), entry.row_of.to(self._device)
        lengths = torch.cat([each.lengths.cpu() for each in entry.rows])[entry.row_of]
        places = self._rows.join(entry.rows, owner, len(slots))
        nothing = torch.zeros_like(entry.row_of)
        columns = {
            "owner": nothing + owner,
            "row": places[row_of],
            "cached": lengths,
            "last": entry.last_ids,
            "masked": nothing if entry.mask_states is None else entry.mask_states,
            "room": entry.room,
            "limit": nothing + entry.max_tokens,
            "reason": LENGTH * (entry.room <= 0),
            "number": entry.particles,
        }
        if entry.starts is not None:
            columns["state"] = entry.starts
        if entry.forced is not None:
            columns["forced"] = entry.forced.starts
        for name, values in columns.items():
            getattr(self._slots, name)[slots] = values.to(slots)
        if entry.starts is None:
            self._slots.state[slots] = entry.law.automaton.start(len(slots))
        beginning = slots[entry.room.to(slots.device) > 0]
        self._active = torch.cat([self._active, beginning])
        self._is_complete |= not len(beginning)
        member = self._members[owner] = Member(entry, slots)
        return member

    def advance(self) -> list[Member]:
        """Draw one token; return those whose particles have all stopped, or that have failed."""
        if not self._is_complete:
            begun = time.perf_counter()
            self._prepare()
            logits = self._next_logits()
            for law, active in self._by_law():
                self._draw(law, active, logits)
            going_on = self._slots.reason[self._active] == 0
            if not bool(going_on.all()):
                self._active, self._is_complete = self._active[going_on], True
            self._charge(time.perf_counter() - begun)
        return self._leave() if self._is_complete else []

    def _prepare(self) -> None:
        """Make room for a token, and take the next random numbers of those that used up theirs."""
        for member in self._members.values():
            self._slots.widen(member.num_drawn + 1)
            chunk, offset = divmod(member.num_drawn, CHUNK)
            if offset == 0 and member.entry.law.temperature > 0:
                assert member.entry.uniforms is not None
                numbers = member.entry.uniforms.chunk(chunk)[member.entry.particles.cpu()]
                self._slots.uniforms[member.slots] = numbers.to(self._device)

    def _next_logits(self) -> Float[Tensor, "R V"]:
        """Feed the last id of each active particle, once where several agree."""
        slots, active = self._slots, self._active
        num_words = next(iter(self._members.values())).entry.law.automaton.vocab_size
        pairs, which = torch.unique(
            slots.row[active] * num_words + slots.last[active], return_inverse=True
        )
        parents, ids = pairs // num_words, pairs % num_words
        # The first of the different ids behind a row goes on in it, the others in copies.
        is_first = parents.diff(prepend=parents[:1] - 1) != 0
        firsts = parents[is_first]
        if len(firsts) < MIN_ACTIVE_FRACTION * self.num_rows:
            parents = self._rows.set_aside(firsts)[parents]
        rows, forked = parents.clone(), parents[~is_first]
        if len(forked):
            rows[~is_first] = self._rows.fork(forked)
        slots.row[active] = rows[which]
        fed = torch.zeros(self.num_rows, dtype=torch.long, device=rows.device)
        fed[rows] = ids
        logits = self._forward(self._rows.cache, fed[:, None])
        self._rows.cache.commit(torch.zeros_like(fed).index_fill(0, rows, 1))
        return logits

    def _by_law(self) -> list[tuple[StepLaw, Int[Tensor, " A"]]]:
        """Return the active particles of each law."""
        owners: dict[StepLaw, list[int]] = {}
        for owner, member in self._members.items():
            owners.setdefault(member.entry.law, []).append(owner)
        if len(owners) == 1:
            return [(law, self._active) for law in owners]
        of_active = self._slots.owner[self._active]
        return [
            (law, self._active[torch.isin(of_active, torch.tensor(mine).to(of_active))])
            for law, mine in owners.items()
        ]

    def _draw(self, law: StepLaw, active: Int[Tensor, " A"], logits: Float[Tensor, "R V"]) -> None:
        """Draw and record a token of each of these particles; see which of them stop."""
        slots, rows = self._slots, self._slots.row[active]
        if len(active) < len(self._active):
            used, rows = torch.unique(rows, return_inverse=True)
            logits = logits[used]
        count = slots.count[active]
        logits = logits.float()
        raw = logits.log_softmax(-1)
        if law.temperature == 0:
            ids = raw.argmax(-1)[rows]
            certain = torch.zeros_like(ids, dtype=torch.float64)
            found = [raw[rows, ids].double(), certain, certain]
        else:
            tempered = raw
            if law.temperature != 1:
                tempered = (logits / law.temperature).log_softmax(-1)
            sampled = tempered
            if law.mask is not None:
                # Particles that share a row agree in their tokens, and so in their states.
                states = torch.zeros_like(logits[:, 0], dtype=torch.long)
                states[rows] = slots.masked[active]
                sampled = law.mask.restrict(tempered, states)
            ids = invert(sampled, slots.uniforms[active, count % CHUNK], rows)
            found = [values[rows, ids].double() for values in (raw, tempered, sampled)]
        broken = found[0].isnan()
        if law.forced_ids:
            places = count - slots.forced[active]
            ids, found = put_forced(law.forced_ids, places, ids, found)
        if law.mask is not None:
            slots.masked[active] = law.mask.automaton.advance(slots.masked[active], ids)
        slots.ids[active, count] = ids
        for record, values in zip(
            (slots.raw, slots.transition, slots.proposal), found, strict=True
        ):
            record[active, count] = values
        states = law.automaton.advance(slots.state[active], ids)
        count = count + 1
        slots.last[active], slots.state[active], slots.count[active] = ids, states, count
        # A complete step that has used up the room for the whole text is cut off all the same.
        full = count >= slots.room[active]
        reasons = LENGTH * (full | (count >= slots.limit[active]))
        reasons = torch.where(law.automaton.complete(states) & ~full, STOP, reasons)
        ended = (ids[:, None] == self._eos_ids).any(1)
        slots.reason[active] = torch.where(ended, EOS, reasons)
        self._fail(active[broken])

    def _fail(self, broken: Int[Tensor, " K"]) -> None:
        """End the requests of particles whose logits are not numbers."""
        for slot in broken.tolist():
            member = self._members[int(self._slots.owner[slot])]
            if member.outcome is None:
                member.outcome = NumericalError(
                    "The logits of the language model are not numbers for particle "
                    f"{int(self._slots.number[slot])} at step {member.entry.step}."
                )
                self._slots.reason[member.slots] = LENGTH

    def _charge(self, seconds: float) -> None:
        """Share out what a token has cost, by the rows that each request has in the batch."""
        shares = self._rows.owners.bincount(minlength=max(self._members) + 1).tolist()
        for owner, member in self._members.items():
            member.num_drawn += 1
            member.positions += shares[owner]
            member.calls += 1
            member.seconds += seconds * shares[owner] / self.num_rows

    def _leave(self) -> list[Member]:
        """Let those go whose particles have all stopped."""
        slots, self._is_complete = self._slots, False
        num_active = slots.owner[self._active].bincount(minlength=max(self._members) + 1).tolist()
        gone = [owner for owner in self._members if not num_active[owner]]
        for owner in gone:
            begun, member = time.perf_counter(), self._members[owner]
            if member.outcome is None:
                member.outcome = self._tokens(member)
            else:
                self._rows.wipe(owner)
            member.seconds += time.perf_counter() - begun
        if gone:
            departing = torch.tensor(gone, device=self._device)
            slots.owner[torch.isin(slots.owner, departing)] = FREE
            self._rows.release(gone)
        return [self._members.pop(owner) for owner in gone]

    def _tokens(self, member: Member) -> StepTokens:
        """Return what has been drawn for a request, with the rows of those that can go on."""
        slots, mine, num_drawn = self._slots, member.slots, member.num_drawn
        reasons, counts = slots.reason[mine].cpu(), slots.count[mine].cpu()
        memory = CacheRows.none(len(mine))
        going_on = mine[(slots.reason[mine] == STOP)]
        if len(going_on):
            cache, rows = self._rows.given_to(going_on)
            # A row may go on behind what is a particle's own.
            lengths = torch.where(reasons == STOP, slots.cached[mine].cpu() + counts, 0)
            memory = CacheRows(cache, memory.rows.masked_scatter(reasons == STOP, rows), lengths)
        return StepTokens(
            token_ids=slots.ids[mine, :num_drawn].cpu(),
            num_tokens=counts,
            log_probs=slots.raw[mine, :num_drawn].cpu(),
            transition_log_probs=slots.transition[mine, :num_drawn].cpu(),
            proposal_log_probs=slots.proposal[mine, :num_drawn].cpu(),
            stop_reasons=reasons,
            memory=memory,
        )


def invert(
    log_probs: Float[Tensor, "R V"], uniforms: Float64[Tensor, " A"], rows: Int[Tensor, " A"]
) -> Int[Tensor, " A"]:
    """Return the smallest index whose cumulative probability exceeds u, for each u in its row.

    In double precision. Strictly exceeds, so that a first class of probability zero is not drawn
    at u = 0; and never beyond the last class of positive probability, when rounding takes u times
    the total to the total.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    place = _places(rows)
    table = uniforms.new_zeros((len(log_probs), int(place.max()) + 1))
    table[rows, place] = uniforms
    index = torch.searchsorted(cumulative, table * total, right=True)
    last = torch.searchsorted(cumulative, total, right=False)
    chosen: Tensor = torch.minimum(index, last).clamp(max=log_probs.shape[-1] - 1)[rows, place]
    return chosen


def _places(rows: Int[Tensor, " A"]) -> Int[Tensor, " A"]:
    """Return for each entry how many entries of the same row come before it."""
    order = rows.argsort(stable=True)
    ordered, numbers = rows[order], torch.arange(len(rows), device=rows.device)
    places = torch.empty_like(rows)
    places[order] = numbers - torch.searchsorted(ordered, ordered)
    return places
