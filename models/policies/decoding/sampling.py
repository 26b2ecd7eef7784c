"""Drawing tokens by inversion, with numbers that belong to the particle and not to the batch."""

from collections.abc import Sequence
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
        return self.chunk(index // CHUNK)[:, index % CHUNK]

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
