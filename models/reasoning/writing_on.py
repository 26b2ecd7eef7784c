r"""Particles that have come to the end of a step write on while others finish it.

Each particle n of step t is given the row $u^n$ of a table of uniform numbers for step t + 1 before
anything is resampled, and may begin to draw that step from it: $x_{t+1} = f(x_t^n, u^n)$. With the
ancestors A, the first child of n goes on with $u^n$, and with what is drawn of it; other children
have fresh numbers, and what dead particles have drawn is lost.

The law is that of the filter. The rows are independent of each other and of everything that the
ancestors depend on, since weights are functions of $x_{0:t}$; each child has a row of its own, and
which one is a function of A. So given $(x_{0:t}, A)$ the numbers of all children are independent
and uniform, and how many tokens were drawn before A was known only decides when they are computed.
It would be another law if the choice of the child depended on what is drawn, or if two children
went on with one row.

Shapes: N particles, M of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from llmsmc.core.randomness import draw_seed
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import Begun, NextUniforms


@dataclass(frozen=True, eq=False)
class Ahead:
    """The random numbers of the next step of N particles, and what is drawn with them already.

    Attributes:
        sampler: who has drawn; another one draws by another law, and takes nothing up.
        uniforms: the numbers.
        rows: which row of them each particle has; -1 for none.
        begun: what is drawn; None where nothing is.
    """

    sampler: object
    uniforms: NextUniforms
    rows: Int[Tensor, " N"]
    begun: Begun | None = None

    def take(self, indices: Int[Tensor, " M"]) -> "Ahead":
        """Return what the particles `indices` have; repeated ones have the same."""
        begun = self.begun and self.begun.take(indices)
        return replace(self, rows=self.rows[indices], begun=begun)

    def claim(self, handle: CacheRows) -> "Ahead":
        """Return what is handed over to these particles: each row to the first that has it.

        What is drawn is drawn again where `handle` does not hold it any more.
        """
        rows = self.uniforms.claim(self.rows)
        if self.begun is None:
            return replace(self, rows=rows)
        counts = self.begun.num_tokens.masked_fill(rows < 0, 0)
        held = handle.present
        if handle.cache is not None and bool(held.any()):
            in_rows = handle.lengths.clone()
            in_rows[held] = handle.cache.lengths.cpu()[handle.rows[held]]
            counts = counts.masked_fill(held & (in_rows < handle.lengths + counts), 0)
        reasons = self.begun.stop_reasons.masked_fill(counts == 0, 0)
        begun = replace(self.begun, num_tokens=counts, stop_reasons=reasons)
        return replace(self, rows=rows, begun=begun if bool(counts.any()) else None)


def next_uniforms(num_particles: int, generator: Generator) -> NextUniforms:
    """Return the numbers for the step after this one; consumes `generator`."""
    source = Generator(device=generator.device).manual_seed(draw_seed(generator))
    return NextUniforms(num_particles, source)


def joined(parts: Sequence[Ahead | None], sizes: Sequence[int]) -> Ahead | None:
    """Return what the particles of several populations have, in order; sizes are those of all.

    Populations with different tables have nothing together.
    """
    holders = [part for part in parts if part is not None and bool((part.rows >= 0).any())]
    if not holders or any(part.uniforms is not holders[0].uniforms for part in holders):
        return None
    pairs = list(zip(parts, sizes, strict=True))
    rows = [torch.full((size,), -1) if part is None else part.rows for part, size in pairs]
    begun = _one_behind_another(
        [(None if part is None else part.begun, size) for part, size in pairs]
    )
    return replace(holders[0], rows=torch.cat(rows), begun=begun)


def _one_behind_another(parts: Sequence[tuple[Begun | None, int]]) -> Begun | None:
    """Return the columns of several, of which some have nothing, with their numbers of rows."""
    known = [begun for begun, _ in parts if begun is not None]
    if not known:
        return None
    width, columns = max(begun.token_ids.shape[1] for begun in known), dict[str, Any]()
    for name, template in vars(known[0]).items():
        if template is None:
            continue
        shape = (width, *template.shape[2:]) if template.dim() > 1 else ()
        columns[name] = template.new_zeros((sum(size for _, size in parts), *shape))
        start = 0
        for begun, size in parts:
            if begun is not None:
                column = getattr(begun, name)
                place = (slice(start, start + size), *[slice(n) for n in column.shape[1:2]])
                columns[name][place] = column
            start += size
    return Begun(**columns)
