"""What is asked of a language model that is to append a step, and what it answers.

Shapes: B particles, L generated tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from llmsmc.errors import ServerError
from llmsmc.models.caches.handles import CacheRows
from llmsmc.models.policies.decoding.sampling import UniformTable
from llmsmc.models.text.constraint import Constraint
from llmsmc.models.text.stopping import StepRule
from llmsmc.models.text.thinking import ForcedTokens


@dataclass(frozen=True, eq=False)
class StepRequest:
    """One step for each of B particles.

    Attributes:
        prompt_ids: the prompt, common to all particles.
        token_ids: what each particle has generated so far, padded on the right.
        num_tokens: how much that is.
        memory: what is cached of the particles; what is missing is computed again.
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
    """

    prompt_ids: tuple[int, ...]
    token_ids: Int[Tensor, "B L"]
    num_tokens: Int[Tensor, " B"]
    memory: CacheRows
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
