"""Drawing tokens by inversion, with numbers that belong to the particle and not to the batch."""

from typing import Final

import torch
from jaxtyping import Float, Float64, Int
from torch import Generator, Tensor

CHUNK: Final = 64  # tokens for which numbers are drawn at once


class UniformTable:
    """Uniform numbers u[n, j] for particle n and its token j of a step; consumes a generator.

    They are drawn for all N particles, [N, 64] at a time, whichever of them still need them:
    what one particle draws does not depend on how long the others go on.
    """

    def __init__(self, num_particles: int, generator: Generator) -> None:
        """Make a table that draws from `generator` as it is read."""
        self._shape = (num_particles, CHUNK)
        self._generator = generator
        self._chunks: list[Float64[Tensor, "N 64"]] = []

    def column(self, index: int) -> Float64[Tensor, " N"]:
        """Return u[:, index]."""
        chunk, offset = divmod(index, CHUNK)
        while len(self._chunks) <= chunk:
            self._chunks.append(
                torch.rand(
                    self._shape,
                    dtype=torch.float64,
                    generator=self._generator,
                    device=self._generator.device,
                )
            )
        return self._chunks[chunk][:, offset]


def invert(log_probs: Float[Tensor, "B V"], uniforms: Float64[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Return the smallest index whose cumulative probability exceeds u, for each row.

    In double precision. Strictly exceeds, so that a first class of probability zero is not drawn
    at u = 0; and never beyond the last class of positive probability, when rounding takes u times
    the total to the total.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    index = torch.searchsorted(cumulative, uniforms[:, None] * total, right=True)
    last = torch.searchsorted(cumulative, total, right=False)
    return torch.minimum(index, last).squeeze(-1).clamp(max=log_probs.shape[-1] - 1)
