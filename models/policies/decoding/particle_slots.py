"""The particles of which a token loop draws steps, in slots that are used again and again.

Shapes: P slots, B particles of one request, A active particles, L tokens of a step.
"""

from typing import Final

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from llmsmc.models.policies.decoding.requests import CHUNK

FREE: Final = -1  # the owner of a slot that nobody has

BLOCK: Final = 64  # tokens for which the records have room at first


class ParticleSlots:
    """Tensors of what is to be known of each particle; everybody reads and writes them by index.

    Attributes:
        owner: the number of the request, or FREE.
        row: the row of the cache in which the particle stands.
        cached: how many tokens of the row were the particle's when it joined.
        last: its last token, which is not in the cache yet.
        state: of the automaton that knows where the step ends.
        masked: of the automaton of the constraint.
        count: tokens drawn.
        room: how many tokens it may have before its text is cut off.
        limit: the same for the step.
        reason: why it has stopped; 0 while it goes on.
        number: its number in the request, for error messages.
        forced: tokens of the step before the first that is forced.
        uniforms: the random numbers for the next tokens.
        ids: the tokens drawn.
        raw: their log-probabilities at temperature 1.
        transition: the same at the temperature.
        proposal: the same under the law that was sampled.
    """

    _NUMBERS: Final = (
        *("owner", "row", "cached", "last", "state", "masked", "count", "room"),
        *("limit", "reason", "number", "forced"),
    )
    _RECORDS: Final = ("ids", "raw", "transition", "proposal")

    owner: Int[Tensor, " P"]
    row: Int[Tensor, " P"]
    cached: Int[Tensor, " P"]
    last: Int[Tensor, " P"]
    state: Int[Tensor, " P"]
    masked: Int[Tensor, " P"]
    count: Int[Tensor, " P"]
    room: Int[Tensor, " P"]
    limit: Int[Tensor, " P"]
    reason: Int[Tensor, " P"]
    number: Int[Tensor, " P"]
    forced: Int[Tensor, " P"]
    uniforms: Float64[Tensor, "P 64"]
    ids: Int[Tensor, "P L"]
    raw: Float64[Tensor, "P L"]
    transition: Float64[Tensor, "P L"]
    proposal: Float64[Tensor, "P L"]

    def __init__(self, device: torch.device) -> None:
        """Make no slots yet."""
        nothing = torch.zeros(0, dtype=torch.long, device=device)
        for name in self._NUMBERS:
            setattr(self, name, nothing)
        record = torch.zeros((0, BLOCK), dtype=torch.float64, device=device)
        self.ids = record.long()
        self.raw = self.transition = self.proposal = record
        self.uniforms = torch.zeros((0, CHUNK), dtype=torch.float64, device=device)

    def take(self, num: int) -> Int[Tensor, " B"]:
        """Return free slots, in which everything is zero."""
        free = (self.owner == FREE).nonzero().squeeze(1)
        if len(free) < num:
            self._grow(max(num - len(free), len(self.owner)))
            free = (self.owner == FREE).nonzero().squeeze(1)
        slots = free[:num]
        for name in (*self._NUMBERS, *self._RECORDS):
            getattr(self, name)[slots] = 0
        return slots

    def widen(self, width: int) -> None:
        """Make room for so many tokens; doubled, so that a token costs no copy."""
        current = self.ids.shape[1]
        if width > current:
            for name in self._RECORDS:
                extra = (0, max(width, 2 * current) - current)
                setattr(self, name, torch.nn.functional.pad(getattr(self, name), extra))

    def _grow(self, num: int) -> None:
        for name in (*self._NUMBERS, *self._RECORDS, "uniforms"):
            value = FREE if name == "owner" else 0
            old: Tensor = getattr(self, name)
            extra = (0, 0) * (old.dim() - 1) + (0, num)
            setattr(self, name, torch.nn.functional.pad(old, extra, value=value))
