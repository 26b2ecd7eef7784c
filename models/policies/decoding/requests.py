"""What is asked of a language model, what it answers, and what is cached of what stands before.

Rows of which nothing is cached any more, or not yet, are computed: the prompts of all that ask in
one batch, and then what has been generated behind each of them. What prompts share is computed
before, in a pass of its own, for the first of them as for all others: what is computed for a prompt
depends on no other prompt. Whoever needs it first pays for it.

Shapes: B particles, R rows that differ, L generated tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Generator, Tensor

from llmsmc.errors import ServerError
from llmsmc.models.caches.prefix_cache import PrefixCache
from llmsmc.models.caches.rows import CacheRows, Rows, gather, padded_rows
from llmsmc.models.text.chat import Prompt
from llmsmc.models.text.constraint import Constraint
from llmsmc.models.text.stopping import StepRule
from llmsmc.models.text.thinking import ForcedTokens
from llmsmc.models.text.vocabulary import Vocabulary

TOKENS_PER_CHUNK: Final = 64  # for which numbers are drawn at once


class UniformTable:
    """Uniform numbers u[n, j] for particle n and its token j of a step; consumes a generator.

    They are drawn for all N particles, [N, 64] at a time, whichever of them still need them:
    what one particle draws does not depend on how long the others go on.
    """

    def __init__(self, num_particles: int, generator: Generator) -> None:
        """Make a table that draws from `generator` as it is read."""
        self._shape = (num_particles, TOKENS_PER_CHUNK)
        self._generator = generator
        self._chunks: list[Float64[Tensor, "N 64"]] = []

    def column(self, index: int) -> Float64[Tensor, " N"]:
        """Return u[:, index]."""
        return self.chunk(index // TOKENS_PER_CHUNK)[:, index % TOKENS_PER_CHUNK]

    def chunk(self, index: int) -> Float64[Tensor, "N 64"]:
        """Return u[:, 64 * index : 64 * (index + 1)]."""
        while len(self._chunks) <= index:
            self._chunks.append(
                torch.rand(
                    self._shape,
                    dtype=torch.float64,
                    generator=self._generator,
                    device=self._generator.device,
                )
            )
        return self._chunks[index]


class UniformTables(UniformTable):
    """The same with a generator for each of N particles; consumes the generators."""

    def __init__(self, generators: Sequence[Generator]) -> None:
        """Make a table that draws the numbers of each particle from its generator."""
        self._tables = [UniformTable(1, generator) for generator in generators]

    def chunk(self, index: int) -> Float64[Tensor, "N 64"]:
        """Return u[:, 64 * index : 64 * (index + 1)]."""
        return torch.cat([table.chunk(index) for table in self._tables])


class NextUniforms(UniformTable):
    """Numbers for the step after the next resampling, of which each row is used once.

    Who has which row is settled by its number alone, never by what is drawn from it. As a generator
    is consumed, so are the rows: who extends the same particles again draws anew.
    """

    def __init__(self, num_particles: int, generator: Generator) -> None:
        """Make a table that draws from `generator` as it is read."""
        super().__init__(num_particles, generator)
        self._is_free = torch.ones(num_particles, dtype=torch.bool)

    def claim(self, numbers: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the rows for those that are the first to ask for them, and -1 for the others."""
        order = numbers.argsort(stable=True)
        is_first = torch.empty_like(numbers, dtype=torch.bool)
        is_first[order] = numbers[order].diff(prepend=numbers.new_full((1,), -1)) != 0
        is_mine = is_first & (numbers >= 0)
        is_mine &= self._is_free[numbers.clamp(min=0)]
        self._is_free[numbers[is_mine]] = False
        return numbers.where(is_mine, -1)


class MixedUniforms(UniformTable):
    """The numbers of some particles from rows of one table, those of the others from another."""

    def __init__(self, table: UniformTable, claimed: UniformTable, rows: Int[Tensor, " N"]) -> None:
        """Take the table of all, another one, and which row of that each has; -1 for none."""
        self._table, self._claimed, self._rows = table, claimed, rows

    def chunk(self, index: int) -> Float64[Tensor, "N 64"]:
        """Return u[:, 64 * index : 64 * (index + 1)]."""
        numbers = self._claimed.chunk(index)[self._rows.clamp(min=0)]
        return numbers.where((self._rows >= 0)[:, None], self._table.chunk(index))


@dataclass(frozen=True, eq=False)
class Begun:
    """What each of B particles has drawn of its next step.

    Attributes:
        token_ids: the tokens, padded with zeros on the right.
        num_tokens: how many each particle has; none where it has nothing to go on with.
        log_probs: log-probabilities of the tokens at temperature 1; zero on padding.
        transition_log_probs: the same at the temperature, from which they were drawn.
        states: of the rule, behind these tokens.
        stop_reasons: why the next step has ended already; 0 where it goes on.
        features: what the readout has read at each token; None without one.
    """

    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    log_probs: Float64[Tensor, "B L"]
    transition_log_probs: Float64[Tensor, "B L"]
    states: Int[Tensor, " B"]
    stop_reasons: Int[Tensor, " B"]
    features: Float[Tensor, "B L F"] | None = None

    def take(self, indices: Int[Tensor, " M"]) -> "Begun":
        """Return what the particles `indices` have drawn."""
        columns: dict[str, Any] = {
            name: None if column is None else column[indices] for name, column in vars(self).items()
        }
        return Begun(**columns)


@runtime_checkable
class Readout(Protocol):
    """What is read of a language model while it writes: features of each token, of a fixed number.

    A feature belongs to the token that is drawn; the network is read where the token before it
    stands, which is where the token is drawn from. So nothing is computed for the reading alone.
    """

    @property
    def size(self) -> int:
        """The number F of features."""
        ...

    def features(
        self, states: Sequence[Float[Tensor, "R D"]], log_probs: Float[Tensor, "R V"]
    ) -> Float[Tensor, "R F"]:
        """Return the features of the tokens that are drawn from R places.

        Args:
            states: the hidden states there: the embeddings, and behind each layer; the last of
                them behind the final norm.
            log_probs: of all tokens at temperature 1.
        """
        ...


@dataclass(frozen=True, eq=False)
class StepRequest:
    """One step for each of B particles.

    Attributes:
        prompt_ids: the prompt, common to all particles.
        token_ids: what each particle has generated so far, padded on the right.
        num_tokens: how much that is.
        handle: what is cached of the particles; what is missing is computed again.
        rule: where a step ends.
        max_tokens: tokens at which the step is cut off.
        max_total_tokens: the same for the whole text, within what the context allows.
        temperature: of the softmax; 0 takes the most probable token.
        uniforms: the random numbers; not needed at temperature 0.
        particles: number of each particle in `uniforms` and in error messages; by default
            0 .. B-1.
        step: number of the step, for error messages.
        constraint: what the tokens drawn must not violate, where they need not.
        starts: the states of the rule with which the particles begin; None for its own start.
        forced: tokens that stand at fixed places, whatever the law says.
        readout: what is read of the network while it writes; None for nothing.
        ahead: the random numbers of the next step, if particles that have come to the end of this
            one may begin it until the others have; not with a constraint or forced tokens. Whoever
            draws need not do so.
        begun: what is drawn of this step already; `token_ids` and `handle` hold it as well.
    """

    prompt_ids: tuple[int, ...]
    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    handle: CacheRows
    rule: StepRule
    max_tokens: int
    max_total_tokens: int | None = None
    temperature: float | int = 1.0
    uniforms: UniformTable | None = None
    particles: Int[Tensor, " B"] | None = None
    step: int = 0
    constraint: Constraint | None = None
    starts: Int[Tensor, " B"] | None = None
    forced: ForcedTokens | None = None
    readout: Readout | None = None
    ahead: UniformTable | None = None
    begun: Begun | None = None

    def __len__(self) -> int:
        """Return B."""
        return len(self.num_tokens)

    @property
    def numbers(self) -> Int[Tensor, " B"]:
        """The number of each particle."""
        return torch.arange(len(self)) if self.particles is None else self.particles

    def room(self, context_length: int) -> Int[Tensor, " B"]:
        """Return how many tokens each particle may still have, in a context of this length."""
        room = context_length - len(self.prompt_ids)
        if self.max_total_tokens is not None:
            room = min(room, self.max_total_tokens)
        return room - self.num_tokens


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
        stop_reasons: EOS, STOP or LENGTH of `llmsmc.models.text.stopping`; FAILED where a
            server gave no step.
        handle: the cached rows of those that can go on (STOP); the others have none.
        error: why rows have failed, if there are any.
        features: what the readout of the request has read at each token; None without one.
        begun: what is drawn of the next step, behind what is a particle's own in its row; None
            where nothing is.
    """

    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    log_probs: Float64[Tensor, "B L"]
    transition_log_probs: Float64[Tensor, "B L"]
    proposal_log_probs: Float64[Tensor, "B L"]
    stop_reasons: Int[Tensor, " B"]
    handle: CacheRows
    error: ServerError | None = None
    features: Float[Tensor, "B L F"] | None = None
    begun: Begun | None = None


@dataclass(frozen=True, eq=False)
class ScoreRequest:
    """Tokens of B particles that are to be scored.

    Attributes:
        prompt_ids: the prompt, common to all particles.
        token_ids: generated tokens, padded on the right.
        num_tokens: how many each particle has.
        starts: the first of them that is scored; all before it are given.
        handle: what is cached of the particles, up to the last token before that; what is missing
            is computed again.
        temperature: of the softmax, above 0.
        readout: what is read of the network at each token; None for nothing.
    """

    prompt_ids: tuple[int, ...]
    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    starts: Int[Tensor, " B"]
    handle: CacheRows
    temperature: float | int = 1.0
    readout: Readout | None = None


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What a language model says of tokens that somebody else has chosen.

    Attributes:
        log_probs: log-probabilities of the tokens at temperature 1; zero on padding.
        tempered_log_probs: the same at the temperature asked for.
        handle: the cached rows, of everything but the last token.
        features: what the readout of the request has read at each token; None without one.
    """

    log_probs: Float64[Tensor, "B L"]
    tempered_log_probs: Float64[Tensor, "B L"]
    handle: CacheRows
    features: Float[Tensor, "B L F"] | None = None


@runtime_checkable
class Network(Protocol):
    """The language model that a batch runs.

    Attributes:
        eos_ids: the ids that end a text.
        context_length: the number of positions that it is built for.
        vocab_size: the number of its ids.
        device: the device on which it runs.
        prefixes: what it has computed of the beginnings that prompts share.
    """

    eos_ids: tuple[int, ...]
    context_length: int
    vocab_size: int
    device: torch.device
    prefixes: PrefixCache

    @property
    def tokens(self) -> Vocabulary:
        """The tokens of the model, and what is compiled for them."""
        ...

    def new_rows(self, num_rows: int) -> Rows:
        """Return so many empty rows for what the network computes."""
        ...

    def forward(
        self,
        cache: Any,
        input_ids: Int[Tensor, "R q"],
        counts: Int[Tensor, " R"] | None = None,
        num_logits: int = 1,
        *,
        reads: bool = False,
    ) -> tuple[Float[Tensor, "R k V"], list[Float[Tensor, "R k D"]]]:
        """Extend rows that `new_rows` has made, and return the logits behind new ids.

        Args:
            cache: the rows, of which the first R are extended.
            input_ids: q new ids of each row.
            counts: how many of these each row keeps, the first ones; by default all.
            num_logits: behind how many of the last of the q ids logits are returned. What is
                returned behind ids that are not kept is any number; for 0 there are none.
            reads: whether the hidden states in these places are returned, too.
        """
        ...


@dataclass(frozen=True, eq=False)
class Prefix:
    """What particles of one prompt have generated, of which all but the last token is needed.

    Attributes:
        prompt_ids: the prompt.
        token_ids: the generated tokens, padded on the right.
        num_tokens: how many each particle has.
        handle: what is cached of them.
    """

    prompt_ids: tuple[int, ...]
    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    handle: CacheRows


@dataclass(frozen=True, eq=False)
class CachedPrefix:
    """Where a prefix is cached, but for its last token.

    Attributes:
        parts: the rows that differ, of one cache or two.
        row_of: for each particle its place in these; those that share one agree in all tokens.
        last_ids: the last id of each particle, which is that of the prompt where nothing follows.
        positions: the number of positions that were computed for it, padding included.
        calls: the number of forward passes in which it took part.
    """

    parts: list[CacheRows]
    row_of: Int[Tensor, " B"]
    last_ids: Int[Tensor, " B"]
    positions: int
    calls: int


def cached(network: Network, prefixes: Sequence[Prefix | StepRequest]) -> list[CachedPrefix]:
    """Return where the prefixes are cached, having computed what was not."""
    groups = [distinct(p.token_ids, p.num_tokens, p.handle.present) for p in prefixes]
    presents = [p.handle.present[firsts] for p, (firsts, _) in zip(prefixes, groups, strict=True)]
    incomplete = [n for n, present in enumerate(presents) if not bool(present.all())]
    if incomplete:
        prompts, costs = _prompts(network, [prefixes[n].prompt_ids for n in incomplete])
    found = []
    for n, (prefix, present) in enumerate(zip(prefixes, presents, strict=True)):
        (firsts, which), parts, positions, calls = groups[n], list[CacheRows](), 0, 0
        if bool(present.any()):
            parts.append(prefix.handle.take(firsts[present]))
        if n in incomplete:
            row, missing = incomplete.index(n), firsts[~present]
            rows, computed = _behind(network, prompts, row, prefix, missing)
            parts.append(rows)
            positions, calls = costs[row]
            positions, calls = positions + computed, calls + (computed > 0)
        order = torch.cat([present.nonzero(), (~present).nonzero()]).squeeze(1)
        last_of_prompt = torch.full((len(which), 1), prefix.prompt_ids[-1])
        ids = torch.cat([last_of_prompt, prefix.token_ids], dim=1)
        last_ids = ids.gather(1, prefix.num_tokens[:, None]).squeeze(1)
        found.append(CachedPrefix(parts, order.argsort()[which], last_ids, positions, calls))
    return found


def _prompts(
    network: Network, prompts: Sequence[tuple[int, ...]]
) -> tuple[Rows, list[tuple[int, int]]]:
    """Return a row for all but the last id of each prompt, and the positions and passes of each."""
    begun, rests, costs = list[Rows](), list[tuple[int, ...]](), list[tuple[int, int]]()
    for prompt in prompts:
        num_shared = prompt.num_shared if isinstance(prompt, Prompt) else 0
        row, is_new = network.new_rows(1), False
        if num_shared:
            row, is_new = network.prefixes.row(prompt[:num_shared])
        begun.append(row)
        rests.append(prompt[num_shared:-1])
        costs.append((num_shared * is_new, int(is_new)))
    width, first = max(map(len, rests)), torch.zeros(1, dtype=torch.long)
    cache = gather([(row, first) for row in begun], room=width)
    if width:
        ids, lengths = padded_rows(rests)
        network.forward(cache, ids.to(network.device), lengths.to(network.device), 0)
    return cache, [(positions + width, calls + (width > 0)) for positions, calls in costs]


def _behind(
    network: Network,
    prompts: Rows,
    row: int,
    prefix: Prefix | StepRequest,
    missing: Int[Tensor, " R"],
) -> tuple[CacheRows, int]:
    """Return the rows of these particles, and how many positions were computed behind a prompt."""
    counts, repeated = prefix.num_tokens[missing], torch.full((len(missing),), row)
    longest = int(counts.max())
    if not longest:
        return CacheRows(prompts, repeated, prompts.lengths[repeated]), 0
    cache = prompts.select(repeated)
    last_of_prompt = torch.full((len(missing), 1), prefix.prompt_ids[-1])
    fed = torch.cat([last_of_prompt, prefix.token_ids[missing, : longest - 1]], dim=1)
    device = cache.lengths.device
    network.forward(cache, fed.to(device), counts.to(device), 0)
    rows = torch.arange(len(missing))
    return CacheRows(cache, rows, cache.lengths, is_donated=True), fed.numel()


def distinct(
    token_ids: Int[Tensor, "B L"],
    num_tokens: Int[Tensor, " B"],
    preferred: Bool[Tensor, " B"],
    starts: Int[Tensor, " B"] | None = None,
) -> tuple[Int[Tensor, " R"], Int[Tensor, " B"]]:
    """Return one of each set of rows with the same tokens, and in which set each row is.

    With `starts`, those of a set begin at the same of them, too. In each set the first of the
    `preferred` rows is taken, if there is one.
    """
    valid = torch.arange(token_ids.shape[1]) < num_tokens[:, None]
    starts = torch.zeros_like(num_tokens) if starts is None else starts
    columns = [token_ids.where(valid, -1), num_tokens[:, None], starts[:, None]]
    rows = torch.cat(columns, dim=1)
    groups, which = torch.unique(rows, dim=0, return_inverse=True)
    order = (2 * which + ~preferred).argsort(stable=True)
    return order[torch.searchsorted(which[order], torch.arange(len(groups)))], which
