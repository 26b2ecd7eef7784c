"""Steps of any number of requests, drawn side by side by one language model.

Requests join between two tokens and leave when all of their particles have stopped; none waits for
another one. Nothing in the loop runs once for each particle: drawing, stopping and recording are
operations on the whole batch. Particles of a request that agree in all of their tokens share a row
of the batch, and are computed once, until they draw different tokens. Rows whose particles have all
stopped stay in the batch, unchanged, until less than a part of it is active; then they wait behind
the others, and do not take part any more. All rows lie in one cache, so that nothing is copied out.

If a request has random numbers of the next step, particles that have come to the end of this one
write on until its last one has. The answer holds what they have begun, and the request for the next
step holds those beginnings that are still wanted.

What a particle draws depends on its own tokens and random numbers alone. Each request costs what it
would alone, in tokens, in calls of the model and, but for padding, in positions: a forward pass
counts as a call of everybody who takes part. Its time is shared out by rows. What prompts share is
paid for by the first that needs it.

Shapes: B particles of one request, P of all requests, A of them active, R rows, L tokens of a step,
V vocabulary.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from llmsmc.core.cost import Cost
from llmsmc.errors import NumericalError
from llmsmc.models.caches.rows import CacheRows, gather
from llmsmc.models.policies.decoding.drawing import invert
from llmsmc.models.policies.decoding.requests import (
    TOKENS_PER_CHUNK,
    Begun,
    CachedPrefix,
    Network,
    Readout,
    StepRequest,
    StepTokens,
    cached,
)
from llmsmc.models.text.constraint import TokenMask
from llmsmc.models.text.stopping import EOS, LENGTH, STOP, Automaton, Resumable, restarted
from llmsmc.models.text.thinking import put_forced

Drawn = tuple[StepTokens, Cost] | Exception
"""The answer to a request."""

# Rows that have stopped stay in the batch until fewer than this fraction are active.
MIN_ACTIVE_FRACTION: Final = 0.8
# Logits from which a CPU draws at once. More do not stay in its caches, and new memory for several
# times as many numbers takes longer than what is computed in it.
MAX_LOGITS: Final = 2**19


@dataclass(frozen=True)
class StepLaw:
    """How tokens are drawn, and where a step ends.

    Attributes:
        automaton: where a step ends.
        temperature: of the softmax; 0 takes the most probable token.
        mask: what tokens are drawn from, at a temperature above 0; None for all.
        forced_ids: tokens that stand at places of their own in each particle, whatever is drawn.
        readout: what is read of the network at each token; None for nothing.
    """

    automaton: Automaton
    temperature: float | int
    mask: TokenMask | None = None
    forced_ids: tuple[int, ...] = ()
    readout: Readout | None = None


@dataclass(eq=False)
class Member:
    """A request in the batch.

    Attributes:
        request: what is asked for.
        law: its rule and its constraint, compiled.
        cached: how many tokens of its row were each particle's when the request joined.
        positions: positions computed for it so far, those of waiting rows included.
        calls: forward passes so far in which it took part.
        seconds: its part of the time that these took.
        num_begun: tokens that its particles had drawn together before it joined.
        num_drawn: the most tokens that one of its particles has so far.
        error: what has gone wrong.
    """

    request: StepRequest
    law: StepLaw
    cached: Int[Tensor, " B"]
    positions: int
    calls: int
    seconds: float = 0.0
    num_begun: int = 0
    num_drawn: int = 0
    error: NumericalError | None = None

    @property
    def is_even(self) -> bool:
        """Whether all of its active particles have drawn the same number of tokens."""
        return self.request.begun is None and self.request.ahead is None


@dataclass(eq=False)
class Particles:
    """What is known of each particle in the batch, in columns.

    Attributes:
        owner: the number of the request.
        row: the row of the cache in which the particle stands; -1 where it needs none any more.
        last: its last token, which is not in the cache yet.
        state: of the automaton that knows where the step ends.
        masked: of the automaton of the constraint.
        count: tokens drawn.
        end: how many of these make up the step, where the particle has begun the next; 0 elsewhere.
        room: how many tokens it may have before its text is cut off.
        limit: the same for the step.
        reason: why it has stopped; 0 while it goes on.
        forced: tokens of the step before the first that is forced.
        uniforms: the random numbers for the next tokens.
        ids: the tokens drawn.
        raw: their log-probabilities at temperature 1.
        transition: the same at the temperature.
        proposal: the same under the law that was sampled.
        slot: where what is read at its tokens is recorded; -1 where nothing is.
    """

    owner: Int[Tensor, " P"]
    row: Int[Tensor, " P"]
    last: Int[Tensor, " P"]
    state: Int[Tensor, " P"]
    masked: Int[Tensor, " P"]
    count: Int[Tensor, " P"]
    end: Int[Tensor, " P"]
    room: Int[Tensor, " P"]
    limit: Int[Tensor, " P"]
    reason: Int[Tensor, " P"]
    forced: Int[Tensor, " P"]
    uniforms: Float64[Tensor, "P 64"]
    ids: Int[Tensor, "P L"]
    raw: Float64[Tensor, "P L"]
    transition: Float64[Tensor, "P L"]
    proposal: Float64[Tensor, "P L"]
    slot: Int[Tensor, " P"]


class StepBatch:
    """Draws steps, a token of each active particle at a time."""

    def __init__(self, network: Network) -> None:
        """Make a batch with no request."""
        self._network, device = network, network.device
        self._eos_ids = torch.tensor(network.eos_ids, dtype=torch.long, device=device)
        self._members: dict[int, Member] = {}
        self._cache, self._num_front = network.new_rows(0), 0
        nothing = torch.zeros(0, dtype=torch.long, device=device)
        record = torch.zeros((0, TOKENS_PER_CHUNK), dtype=torch.float64, device=device)
        numbers, records = (nothing,) * 11, (record, record.long(), record, record, record)
        self._particles, self._active = Particles(*numbers, *records, nothing), nothing
        # What is read takes far more memory than all columns, so it stays where it is while
        # others join and leave: [slots, L, F].
        self._features = torch.zeros((0, TOKENS_PER_CHUNK, 0), device=device)
        self._is_complete = False  # some request may be

    @property
    def requests(self) -> list[StepRequest]:
        """The requests that have joined."""
        return [member.request for member in self._members.values()]

    def join(self, requests: Sequence[StepRequest]) -> None:
        """Let requests take part from the next token on, or none of them if something fails."""
        begun, tokens = time.perf_counter(), self._network.tokens
        laws, states = list[StepLaw](), list[Tensor | None]()
        with torch.no_grad():
            found = cached(self._network, requests)
            for request in requests:
                mask = None if request.constraint is None else tokens.mask(request.constraint)
                forced_ids = () if request.forced is None else request.forced.token_ids
                automaton = tokens.automaton(request.rule)
                law = StepLaw(automaton, request.temperature, mask, forced_ids, request.readout)
                laws.append(law)
                behind = request.token_ids, request.num_tokens
                states.append(None if mask is None else mask.states(*behind))
            joining = zip(requests, laws, states, found, strict=True)
            members = [self._enter(*each) for each in joining]
        seconds = (time.perf_counter() - begun) / len(requests)
        for member in members:
            member.seconds = seconds

    def advance(self) -> list[tuple[StepRequest, Drawn]]:
        """Draw one token of each active particle; return the answers to requests that leave."""
        if self._is_complete:
            return self._leave()
        begun, laws = time.perf_counter(), dict[StepLaw, list[int]]()
        particles, members = self._particles, self._members
        with torch.no_grad():
            for owner, member in members.items():
                laws.setdefault(member.law, []).append(owner)
                chunk, offset = divmod(member.num_drawn, TOKENS_PER_CHUNK)
                if not member.is_even:
                    self._refill(owner, member)
                elif offset == 0 and member.law.temperature > 0:
                    uniforms, numbers = member.request.uniforms, member.request.particles
                    assert uniforms is not None
                    which = slice(len(member.cached)) if numbers is None else numbers.cpu()
                    drawn = uniforms.chunk(chunk)[which]
                    particles.uniforms[particles.owner == owner] = drawn.to(particles.uniforms)
            self._widen(1 + max(member.num_drawn for member in members.values()))
            logits, states = self._feed(any(law.readout is not None for law in laws))
            broken = list[Tensor]()
            for law, owners in laws.items():
                active = self._active
                if len(laws) > 1:
                    of_active = particles.owner[active]
                    active = active[torch.isin(of_active, torch.tensor(owners).to(of_active))]
                parts: Sequence[Tensor] = [active]
                if logits.device.type == "cpu" and logits.numel() > MAX_LOGITS:
                    parts = _in_parts(active, particles.row, MAX_LOGITS // logits.shape[1])
                broken += [self._draw(law, part, logits, states) for part in parts]
            if len(failed := torch.cat(broken)):
                self._fail(failed)
            going_on = particles.reason[self._active] == 0
            if not bool(going_on.all()):
                self._active, self._is_complete = self._active[going_on], True
                self._write_on()
        shares = dict.fromkeys(members, self._num_front)
        if len(members) > 1:
            owners_of_rows = particles.owner.new_zeros(self._cache.num_rows + 1)
            owners_of_rows[particles.row] = particles.owner  # the last is of those without a row
            in_front = owners_of_rows[: self._num_front]
            shares = dict(enumerate(in_front.bincount(minlength=max(members) + 1).tolist()))
        seconds = (time.perf_counter() - begun) / self._num_front
        for owner, member in members.items():
            member.num_drawn, member.calls = member.num_drawn + 1, member.calls + 1
            member.positions += shares[owner]
            member.seconds += seconds * shares[owner]
        return self._leave() if self._is_complete else []

    def _enter(
        self, request: StepRequest, law: StepLaw, masked: Tensor | None, found: CachedPrefix
    ) -> Member:
        """Put the particles of a request into the batch, and rows for them in front."""
        owner = next(n for n in range(len(self._members) + 1) if n not in self._members)
        device, size = self._network.device, len(request.num_tokens)
        max_rows = len(self._particles.owner) + size
        places = list[Tensor]()
        for part in found.parts:
            assert part.cache is not None
            if part.is_donated and not self._cache.num_rows:
                self._cache = part.cache.moved_out()
                places.append(self._cache.hold(part.rows, part.lengths))
            else:
                places.append(self._cache.append(part.cache, part.rows, part.lengths, max_rows))
        rows = self._in_front(torch.cat(places))[found.row_of.to(device)]
        lengths = torch.cat([part.lengths.cpu() for part in found.parts])[found.row_of]
        nothing = torch.zeros(size, dtype=torch.long, device=device)
        room = request.room(self._network.context_length).to(device)
        starts, forced, automaton = request.starts, request.forced, law.automaton
        readout = request.readout
        if starts is None and isinstance(automaton, Resumable):
            starts = automaton.behind(request.token_ids, request.num_tokens)
        begun, num_begun = request.begun, nothing
        if begun is not None:
            num_begun = begun.num_tokens.to(device)
            self._widen(int(num_begun.max()))
        record = nothing.new_zeros((size, self._particles.ids.shape[1]))
        new = Particles(
            owner=nothing + owner,
            row=rows,
            last=found.last_ids.to(device),
            state=automaton.start(size) if starts is None else starts.to(device),
            masked=nothing if masked is None else masked.to(device),
            count=num_begun,
            end=nothing,
            room=room + num_begun,
            limit=nothing + request.max_tokens,
            reason=LENGTH * (room <= 0),
            forced=nothing if forced is None else forced.starts.to(device),
            uniforms=record.new_zeros((size, TOKENS_PER_CHUNK), dtype=torch.float64),
            ids=record,
            raw=record.double(),
            transition=record.double(),
            proposal=record.double(),
            slot=nothing - 1
            if readout is None
            else self._slots(size, record.shape[1], readout.size),
        )
        member = Member(request, law, lengths, found.positions, found.calls)
        if begun is not None:
            self._take_up(begun, new)
            member.cached = lengths - begun.num_tokens
            member.num_begun = int(begun.num_tokens.sum())
            member.num_drawn = int(begun.num_tokens.max())
        columns = zip(vars(self._particles).values(), vars(new).values(), strict=True)
        self._particles = Particles(*(torch.cat(pair) for pair in columns))
        self._active = (self._particles.reason == 0).nonzero().squeeze(1)
        self._is_complete |= not bool((new.reason == 0).any())
        self._members[owner] = member
        if begun is not None:
            self._write_on()
            self._refill(owner, member, at_once=True)
        return member

    def _take_up(self, begun: Begun, new: Particles) -> None:
        """Enter what is drawn already of a step into the columns of the particles."""
        device, width = self._network.device, int(begun.num_tokens.max())
        is_begun = torch.arange(width, device=device) < new.count[:, None]
        for record, drawn in (
            (new.ids, begun.token_ids),
            (new.raw, begun.log_probs),
            (new.transition, begun.transition_log_probs),
            (new.proposal, begun.transition_log_probs),
        ):
            record[:, :width] = drawn[:, :width].to(device).where(is_begun, 0)
        new.state = begun.states.to(device).where(new.count > 0, new.state)
        new.reason = begun.stop_reasons.to(device).where(new.count > 0, new.reason)
        if begun.features is not None:
            features = begun.features[:, :width].to(device)
            self._features[new.slot, :width, : features.shape[2]] = features

    def _write_on(self) -> None:
        """Let particles begin the next step that have come to the end of theirs, where they may."""
        particles = self._particles
        owners = [n for n, member in self._members.items() if member.request.ahead is not None]
        if not owners:
            return
        is_theirs = torch.isin(particles.owner, torch.tensor(owners).to(particles.owner))
        ready = is_theirs & (particles.reason == STOP) & (particles.end == 0)
        for owner in owners:
            member, mine = self._members[owner], ready & (particles.owner == owner)
            states = particles.state[mine]
            particles.state[mine] = restarted(member.law.automaton, states)
            particles.limit[mine] = particles.count[mine] + member.request.max_tokens
        particles.end = torch.where(ready, particles.count, particles.end)
        particles.reason = particles.reason.masked_fill(ready, 0)
        self._active = (particles.reason == 0).nonzero().squeeze(1)

    def _refill(self, owner: int, member: Member, *, at_once: bool = False) -> None:
        """Get the random numbers of particles that have used up theirs, or of all at once."""
        particles, request = self._particles, member.request
        places, mine = particles.count - particles.end, particles.owner == owner
        due = mine & (particles.reason == 0)
        if not at_once:
            due &= places % TOKENS_PER_CHUNK == 0
        if not bool(due.any()):
            return
        first, numbers = int(mine.nonzero()[0]), request.numbers.cpu()
        chunks, is_next = places // TOKENS_PER_CHUNK, particles.end > 0
        for table, of_table in ((request.uniforms, due & ~is_next), (request.ahead, due & is_next)):
            for chunk in torch.unique(chunks[of_table]).tolist():
                assert table is not None
                those = (of_table & (chunks == chunk)).nonzero().squeeze(1)
                drawn = table.chunk(chunk)[numbers[(those - first).cpu()]]
                particles.uniforms[those] = drawn.to(particles.uniforms)

    def _widen(self, width: int) -> None:
        """Make room for so many tokens of each particle; doubled, so that a token costs no copy."""
        particles = self._particles
        while (current := particles.ids.shape[1]) < width:
            for name in ("ids", "raw", "transition", "proposal"):
                record = torch.nn.functional.pad(getattr(particles, name), (0, current))
                setattr(particles, name, record)
            if len(self._features):
                self._make_room(0, particles.ids.shape[1], 0)

    def _slots(self, count: int, length: int, size: int) -> Int[Tensor, " B"]:
        """Return free places for what is read of so many particles; more are made if need be."""
        features, used = self._features, self._particles.slot
        is_free = torch.ones(len(features) + count, dtype=torch.bool, device=used.device)
        is_free[used[used >= 0]] = False
        slots = is_free.nonzero().squeeze(1)[:count]
        self._make_room(int(slots.max()) + 1, length, size)
        return slots

    def _make_room(self, num_slots: int, length: int, size: int) -> None:
        """Make room for so many particles, of so many tokens and so many numbers a token."""
        wanted, current = (num_slots, length, size), self._features.shape
        missing = [max(0, more - less) for more, less in zip(wanted, current, strict=True)]
        if any(missing):
            missing[0] = max(missing[0], current[0]) if missing[0] else 0  # doubled
            slots, tokens, numbers = missing
            pad = (0, numbers, 0, tokens, 0, slots)
            self._features = torch.nn.functional.pad(self._features, pad)

    def _in_front(self, new: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
        """Move new rows, which stand behind all others, in front of those that wait."""
        start, self._num_front = self._num_front, self._num_front + len(new)
        if self._num_front < self._cache.num_rows:
            front = torch.cat([torch.arange(start, device=new.device), new])
            places, rows = self._cache.put_in_front(front), self._particles.row
            self._particles.row, new = torch.where(rows < 0, -1, places[rows]), places[new]
        return new

    def _keep(self, rows: Int[Tensor, " L"], front: Int[Tensor, " M"]) -> Int[Tensor, " C"]:
        """Forget the other rows, and leave `front` in front; return where each row is now."""
        places, before = self._cache.keep(rows, front), self._particles.row
        self._num_front = len(front)
        if len(places):
            self._particles.row = torch.where(before < 0, -1, places[before])
        return places

    def _feed(self, reads: bool) -> tuple[Float[Tensor, "R V"], list[Float[Tensor, "R D"]]]:
        """Feed the last id of each active particle, once where several agree; return the logits.

        With `reads` the hidden states are returned, too.
        """
        particles, active, num_words = self._particles, self._active, self._network.vocab_size
        pairs = particles.row[active] * num_words + particles.last[active]
        pairs, which = torch.unique(pairs, return_inverse=True)
        parents, ids = pairs // num_words, pairs % num_words
        # The first of the different ids behind a row goes on in it, the others in copies.
        is_first = parents.diff(prepend=parents[:1] - 1) != 0
        firsts = parents[is_first]
        if len(firsts) < MIN_ACTIVE_FRACTION * self._num_front:
            waiting = particles.row[(particles.reason == STOP) | (particles.end > 0)]
            parents = self._keep(torch.unique(torch.cat([firsts, waiting])), firsts)[parents]
        rows, forked = parents.clone(), parents[~is_first]
        if len(forked):
            lengths, max_rows = self._cache.lengths[forked], len(particles.owner)
            new = self._cache.append(self._cache, forked, lengths, max_rows)
            rows[~is_first] = self._in_front(new)
        particles.row[active] = rows[which]
        fed = torch.zeros(self._num_front, dtype=torch.long, device=rows.device)
        fed[rows] = ids
        counts = torch.zeros_like(fed).index_fill(0, rows, 1)
        logits, states = self._network.forward(self._cache, fed[:, None], counts, reads=reads)
        return logits[:, -1], [each[:, -1] for each in states]

    def _draw(
        self,
        law: StepLaw,
        active: Int[Tensor, " A"],
        logits: Float[Tensor, "R V"],
        hidden: Sequence[Float[Tensor, "R D"]],
    ) -> Int[Tensor, " K"]:
        """Draw and record a token of each of these particles; see which of them stop.

        Returns:
            Those whose logits are not numbers.
        """
        particles, rows = self._particles, self._particles.row[active]
        if len(active) < len(self._active):
            used, rows = torch.unique(rows, return_inverse=True)
            logits, hidden = logits[used], [each[used] for each in hidden]
        count = particles.count[active]
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
                states[rows] = particles.masked[active]
                sampled = law.mask.restrict(tempered, states)
            places = (count - particles.end[active]) % TOKENS_PER_CHUNK
            ids = invert(sampled, particles.uniforms[active, places], rows)
            found = [values[rows, ids].double() for values in (raw, tempered, sampled)]
        broken = found[0].isnan()
        if law.forced_ids:
            places = count - particles.forced[active]
            ids, found = put_forced(law.forced_ids, places, ids, found)
        if law.mask is not None:
            masked = law.mask.automaton.advance(particles.masked[active], ids)
            particles.masked[active] = masked
        particles.ids[active, count] = ids
        records = particles.raw, particles.transition, particles.proposal
        for record, values in zip(records, found, strict=True):
            record[active, count] = values
        if law.readout is not None:
            features = law.readout.features(hidden, raw)[rows]
            self._features[particles.slot[active], count, : law.readout.size] = features
        states = law.automaton.advance(particles.state[active], ids)
        count = count + 1
        particles.last[active], particles.state[active] = ids, states
        particles.count[active] = count
        # A complete step that has used up the room for the whole text is cut off all the same.
        full = count >= particles.room[active]
        reasons = LENGTH * (full | (count >= particles.limit[active]))
        reasons = torch.where(law.automaton.complete(states) & ~full, STOP, reasons)
        ended = (ids[:, None] == self._eos_ids).any(1)
        particles.reason[active] = torch.where(ended, EOS, reasons)
        return active[broken]

    def _fail(self, broken: Int[Tensor, " K"]) -> None:
        """End the requests of particles whose logits are not numbers."""
        owners = self._particles.owner
        for place in sorted(broken.tolist()):
            member = self._members[int(owners[place])]
            if member.error is None:
                mine = owners == owners[place]
                number = member.request.numbers[int(mine[:place].sum())]
                member.error = NumericalError(
                    "The logits of the language model are not numbers for particle "
                    f"{int(number)} at step {member.request.step}."
                )
                self._particles.reason[mine] = LENGTH

    def _leave(self) -> list[tuple[StepRequest, Drawn]]:
        """Let the requests go whose particles all have their step; return the answers to them."""
        particles, self._is_complete = self._particles, False
        owners = particles.owner[self._active[particles.end[self._active] == 0]]
        num_active = owners.bincount(minlength=max(self._members) + 1).tolist()
        gone = [owner for owner in self._members if not num_active[owner]]
        answers = [(self._members[owner].request, self._answer(owner)) for owner in gone]
        if gone:
            for owner in gone:
                del self._members[owner]
            staying = ~torch.isin(particles.owner, torch.tensor(gone).to(particles.owner))
            self._particles = Particles(*(column[staying] for column in vars(particles).values()))
            self._active = (self._particles.reason == 0).nonzero().squeeze(1)
            if not bool((self._particles.slot >= 0).any()):
                self._features = self._features.new_zeros((0, TOKENS_PER_CHUNK, 0))
            rows = torch.unique(self._particles.row[self._particles.row >= 0])
            self._keep(rows, rows[rows < self._num_front])
        return answers

    def _answer(self, owner: int) -> Drawn:
        """Return what has been drawn for a request, with the rows of those that can go on.

        The cache in which there is nothing of others is given away as it is.
        """
        begun, particles, member = time.perf_counter(), self._particles, self._members[owner]
        mine, held = particles.owner == owner, particles.row >= 0
        if member.error is not None:
            self._cache.wipe(particles.row[mine & held])
            return member.error
        reasons, totals = particles.reason[mine].cpu(), particles.count[mine].cpu()
        has_begun = particles.end[mine].cpu() > 0
        counts = particles.end[mine].cpu().where(has_begun, totals)
        last_reasons, reasons = reasons, reasons.masked_fill(has_begun, STOP)
        can_go_on = reasons == STOP
        handle = CacheRows(None, torch.full_like(reasons, -1), torch.zeros_like(reasons))
        if bool(can_go_on.any()):
            going_on = particles.row[mine][can_go_on.to(particles.row.device)]
            rows, which = torch.unique(going_on, return_inverse=True)
            if bool((held & ~mine).any()):
                cache, places = gather([(self._cache, rows)]), which
            else:
                cache, places = self._cache, self._cache.keep(rows)[going_on]
                self._cache, self._num_front = self._network.new_rows(0), 0
                particles.row = torch.full_like(particles.row, -1)
            # A row may go on behind what is a particle's own.
            lengths = torch.where(can_go_on, member.cached + counts, 0)
            handle = CacheRows(cache, handle.rows.masked_scatter(can_go_on, places.cpu()), lengths)
        records = particles.ids, particles.raw, particles.transition, particles.proposal
        ids, raw, transition, proposal = (each[mine, : member.num_drawn].cpu() for each in records)
        features, readout = None, member.request.readout
        if readout is not None:
            read = self._features[:, : member.num_drawn, : readout.size]
            features = read[particles.slot[mine]].cpu()
        following = None
        if member.request.ahead is not None:
            states = particles.state[mine].cpu()
            columns = ids, raw, transition, features
            following = _behind(columns, counts, totals - counts, states, last_reasons)
            is_of_step = torch.arange(ids.shape[1]) < counts[:, None]
            ids, raw = ids.where(is_of_step, 0), raw.where(is_of_step, 0.0)
            transition = proposal = transition.where(is_of_step, 0.0)
        tokens = StepTokens(
            ids,
            counts,
            raw,
            transition,
            proposal,
            reasons,
            handle,
            features=features,
            begun=following,
        )
        cost = Cost(
            generated_tokens=int(totals.sum()) - member.num_begun,
            policy_positions=member.positions,
            model_calls=member.calls,
            policy_seconds=member.seconds + time.perf_counter() - begun,
        )
        return tokens, cost


def _behind(
    columns: tuple[Tensor, Tensor, Tensor, Tensor | None],
    starts: Int[Tensor, " B"],
    counts: Int[Tensor, " B"],
    states: Int[Tensor, " B"],
    reasons: Int[Tensor, " B"],
) -> Begun:
    """Return the `counts` entries of each column that stand behind its first `starts`."""
    places = torch.arange(int(counts.max()))
    is_drawn = places < counts[:, None]
    sources = (starts[:, None] + places).where(is_drawn, 0)
    ids, raw, transition = (
        each.gather(1, sources).masked_fill(~is_drawn, 0) for each in columns[:3]
    )
    features = columns[3]
    if features is not None:
        features = features[torch.arange(len(counts))[:, None], sources]
    following = reasons.masked_fill(counts == 0, 0)
    return Begun(ids, counts, raw, transition, states, following, features)


def _in_parts(
    active: Int[Tensor, " A"], row: Int[Tensor, " P"], num_rows: int
) -> list[Int[Tensor, " _"]]:
    """Return the active particles in parts, each with all of those that stand in a few rows."""
    rows, which = torch.unique(row[active], return_inverse=True)
    order = which.argsort(stable=True)
    firsts = torch.arange(0, len(rows), max(1, num_rows))
    bounds = torch.searchsorted(which[order], firsts[1:])
    return list(active[order].tensor_split(bounds))
