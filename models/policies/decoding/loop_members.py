"""Who takes part in a token loop, and with what.

Shapes: B particles of one request, R rows of a cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from llmsmc.errors import NumericalError
from llmsmc.models.policies.decoding.requests import Rows, StepTokens, UniformTable
from llmsmc.models.text.constraint import TokenMask
from llmsmc.models.text.stopping import Automaton
from llmsmc.models.text.thinking import ForcedTokens


@dataclass(frozen=True)
class StepLaw:
    """How tokens are drawn, and where a step ends.

    Attributes:
        automaton: where a step ends.
        temperature: of the softmax; 0 takes the most probable token.
        mask: what tokens are drawn from, at a temperature above 0; None for all.
        forced_ids: tokens that stand at places of their own in each particle, whatever is drawn.
    """

    automaton: Automaton
    temperature: float | int
    mask: TokenMask | None = None
    forced_ids: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Entry:
    """What the loop needs to know of a request.

    Attributes:
        law: how its tokens are drawn.
        rows: where all but the last token of each particle is cached.
        row_of: for each particle its place in `rows`; those that share one agree in all tokens.
        last_ids: the last id of each particle.
        max_tokens: tokens of the step at which it is cut off.
        room: how many tokens each particle may still have.
        uniforms: the random numbers; not needed at temperature 0.
        particles: number of each particle in `uniforms` and in error messages.
        step: number of the step, for error messages.
        mask_states: the state of each particle in the mask, if there is one.
        starts: the state of the rule with which each particle begins; None for its own start.
        forced: which tokens of the step are forced on each particle, if any.
    """

    law: StepLaw
    rows: Sequence[Rows]
    row_of: Int[Tensor, " B"]
    last_ids: Int[Tensor, " B"]
    max_tokens: int
    room: Int[Tensor, " B"]
    uniforms: UniformTable | None
    particles: Int[Tensor, " B"]
    step: int = 0
    mask_states: Int[Tensor, " B"] | None = None
    starts: Int[Tensor, " B"] | None = None
    forced: ForcedTokens | None = None


@dataclass(eq=False)
class Member:
    """A request in the loop.

    Attributes:
        entry: what it asks for.
        slots: its particles.
        num_drawn: tokens drawn so far, of those that are active.
        positions: positions computed for it so far, those of waiting rows included.
        calls: forward passes so far in which it took part.
        seconds: its part of the time that these took.
        outcome: its tokens, once all particles have stopped; or what has gone wrong.
    """

    entry: Entry
    slots: Int[Tensor, " B"]
    num_drawn: int = 0
    positions: int = 0
    calls: int = 0
    seconds: float = 0.0
    outcome: StepTokens | NumericalError | None = None
