"""One step of each of many particles, drawn by a server with as many requests as it takes.

Where a step ends is decided here, token by token, whatever the server thinks: what it has drawn
beyond the end is cut off, and where it has stopped before it is asked to go on.
"""

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsmc.core.cost import Cost
from llmsmc.errors import ServerError
from llmsmc.models.servers.client import Client
from llmsmc.models.servers.engine import Draw, Drawn, Engine
from llmsmc.models.text.fences import FencedAutomaton, OutsideFences
from llmsmc.models.text.stopping import (
    EOS,
    FAILED,
    LENGTH,
    STOP,
    CountAutomaton,
    Delimiter,
    StepAutomaton,
    StepRule,
    WholeAnswer,
)

CHUNK: Final = 32  # tokens asked for at once where no stop text tells a server where a step ends

LOOKED_AT: Final = 1024  # tokens in which a key is looked for


@dataclass(frozen=True)
class Limits:
    """Where a step ends, and what the server is told of it.

    Attributes:
        pieces: the bytes of each id.
        table: the automaton of the rule, [S, V]; None where it counts tokens.
        kinds: the column of the table for each id; None where that is the id itself.
        complete: its states in which the step is complete; the number of tokens where it counts.
        eos_ids: the ids that end a text.
        max_tokens: of the step.
        temperature: of the softmax.
        stop: a text at which the server stops by itself.
        chunk: how many tokens are asked for at once; None for all that there is room for.
        whole: whether what the server gives is taken as it is, as a whole answer.
        log_probs: whether the server gives log-probabilities.
    """

    pieces: list[bytes]
    table: NDArray[np.integer[Any]] | None
    kinds: NDArray[np.integer[Any]] | None
    complete: frozenset[int]
    eos_ids: tuple[int, ...]
    max_tokens: int
    temperature: float | int
    stop: str | None
    chunk: int | None
    whole: bool
    log_probs: bool

    @classmethod
    def of(
        cls,
        rule: StepRule,
        automaton: StepAutomaton | CountAutomaton | FencedAutomaton,
        pieces: list[bytes],
        eos_ids: tuple[int, ...],
        max_tokens: int,
        temperature: float | int,
        *,
        whole: bool,
        log_probs: bool,
    ) -> "Limits":
        """Return the limits for a rule and what it is compiled to."""
        chunk: int | None = CHUNK
        text = rule.step if isinstance(rule, OutsideFences) else rule
        if isinstance(text, Delimiter | WholeAnswer):
            chunk = None
        table: NDArray[np.integer[Any]] | None = None
        kinds: NDArray[np.integer[Any]] | None = None
        if isinstance(automaton, CountAutomaton):
            complete, chunk = {automaton.count}, automaton.count
        elif isinstance(automaton, FencedAutomaton):
            table, kinds = automaton.table.numpy(), automaton.kinds.numpy()
            complete = set(automaton.is_complete.nonzero().flatten().tolist())
        else:
            table, complete = automaton.table.numpy(), {automaton.accept}
        return cls(
            pieces=pieces,
            table=table,
            kinds=kinds,
            complete=frozenset(complete),
            eos_ids=eos_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            stop=text.text if isinstance(text, Delimiter) else None,
            chunk=chunk,
            whole=whole,
            log_probs=log_probs,
        )

    def next_state(self, state: int, id: int) -> int:
        """Return the state after one more id."""
        if self.table is None:
            return state + 1
        return int(self.table[state, id if self.kinds is None else self.kinds[id]])

    def check(self, drawn: Drawn, asked: int) -> None:
        """Find out whether this can have been drawn, where `asked` tokens were asked for.

        Raises:
            ServerError: it has too much or too little, or ids that the tokenizer does not have.
        """
        if self.whole:
            return
        count, size = len(drawn.token_ids), len(self.pieces)
        if not count and drawn.reason != EOS:
            problem = "it has drawn no token, and no end either"
        elif count > asked:
            problem = f"it has drawn {count} tokens where {asked} were asked for"
        elif count and max(drawn.token_ids) >= size:
            id = max(drawn.token_ids)
            problem = f"it has drawn token {id}; the vocabulary of the tokenizer has {size}"
        elif len(drawn.log_probs or ()) != count and (self.log_probs or drawn.log_probs):
            given = len(drawn.log_probs or ())
            problem = f"it gives {given} log-probabilities of {count} tokens"
        else:
            return
        raise ServerError(problem, is_down=False)


@dataclass
class PendingStep:
    """The step of one particle, as far as it has come.

    Attributes:
        prefix: the ids before the step.
        room: how many more the text may have.
        seed: of the step.
        state: of the automaton.
        ids: what has been drawn of it.
        log_probs: of these, NaN where the server does not say.
        reason: why the step has ended; 0 while it goes on.
        cost: of the requests so far.
        error: why it has failed, if it has.
    """

    prefix: tuple[int, ...]
    room: int
    seed: int
    state: int = 0
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    reason: int = 0
    cost: Cost = Cost()
    error: ServerError | None = None

    def fail(self, error: ServerError) -> None:
        """Give up: nothing that was drawn of this step is kept."""
        self.ids, self.log_probs = [], []
        self.reason, self.error = FAILED, error
        self.cost += Cost.of_failures([error])

    def add(self, drawn: Drawn, limits: Limits) -> None:
        """Take what has been drawn, up to where the step ends.

        Raises:
            ServerError: the stop text with which it ends is not in it.
        """
        self.cost += Cost(
            generated_tokens=drawn.generated_tokens,
            prompt_tokens=drawn.prompt_tokens,
            cached_tokens=drawn.cached_tokens,
            policy_positions=drawn.prompt_tokens - drawn.cached_tokens + drawn.generated_tokens,
            model_calls=1,
        )
        if limits.whole:
            self.ids, self.reason = list(drawn.token_ids), drawn.reason
            self.log_probs = [math.nan] * len(self.ids)
            return
        for index, id in enumerate(drawn.token_ids):
            self.ids.append(id)
            self.log_probs.append(math.nan if drawn.log_probs is None else drawn.log_probs[index])
            self.state = limits.next_state(self.state, id)
            if id in limits.eos_ids:
                self.reason = EOS
            elif self.state in limits.complete:
                self.reason = STOP if len(self.ids) < self.room else LENGTH
            if self.reason:
                return
        if drawn.reason == STOP and limits.stop is not None:
            text = b"".join(limits.pieces[id] for id in drawn.token_ids)
            if limits.stop.encode() not in text:
                raise ServerError(
                    "it takes the text at which it stops out of the ids; accepted: a server that "
                    "leaves it in, as newer ones do",
                    is_down=False,
                )
        if drawn.reason == EOS:  # not among what was drawn, or by an id of the server's own
            self.reason = EOS


async def draw_rows(
    client: Client, engine: Engine, rows: Sequence[PendingStep], limits: Limits
) -> None:
    """Draw the steps of all rows side by side; one that fails leaves the others alone."""
    await asyncio.gather(*(_draw(client, engine, row, limits) for row in rows))


async def _draw(client: Client, engine: Engine, row: PendingStep, limits: Limits) -> None:
    budget, part = min(limits.max_tokens, row.room), 0
    while row.reason == 0:
        left = budget - len(row.ids)
        if left <= 0:
            row.reason = LENGTH
            return
        draw = Draw(
            (*row.prefix, *row.ids),
            min(left, limits.chunk or left),
            limits.temperature,
            _seed_of_part(row.seed, part, engine.num_seeds),
            limits.stop,
        )
        part += 1

        def take(answer: Any, asked: int = draw.max_tokens) -> None:
            drawn = engine.read(answer)
            limits.check(drawn, asked)
            row.add(drawn, limits)
            text = b"".join(limits.pieces[id] for id in (*row.prefix, *row.ids)[-LOOKED_AT:])
            if client.hides(text.decode(errors="replace")):
                raise ServerError("it has drawn its own key", is_down=False)

        try:
            await client.post(engine.path, engine.body(draw), take)
        except ServerError as error:
            row.fail(error)


def _seed_of_part(seed: int, part: int, num_seeds: int) -> int:
    """Return the seed of each request of a step: that of the step, then others made from it."""
    if part == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % num_seeds
