"""The particles of a Pyro program: what it has stored, what it has drawn, and how it stands."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from llmsmc.core.particles import components, concatenate, element, take, where
from llmsmc.errors import InputError

Stored = dict[Hashable, Tensor]
"""What a program stores in its `state`, each `[N, ...]`."""

Sites = tuple[dict[str, Tensor], ...]
"""The values `[N, ...]` that were drawn, for each of the calls that made a step."""


@dataclass(frozen=True, eq=False)
class PyroParticles:
    """N particles behind a step of a program.

    Attributes:
        stored: the program's `state`.
        sites: the values of the sites that the step has drawn.
        program: the program as the step has left it, as it may count its steps; never changed.
        guide: the guide as the step has left it.
    """

    stored: Stored
    sites: Sites
    program: Any
    guide: Any

    def __len__(self) -> int:
        """Return N."""
        return num_rows((self.stored, self.sites))

    def __getitem__(self, indices: Any) -> "PyroParticles":
        """Return the particles at the indices; with an integer, that particle."""
        pick = element if isinstance(indices, int) else take
        stored, sites = pick((self.stored, self.sites), indices)
        return replace(self, stored=stored, sites=sites)

    def select(self, mask: Bool[Tensor, " N"], other: "PyroParticles") -> "PyroParticles":
        """Return these particles where `mask`, and those of `other` elsewhere."""
        mine, others = (self.stored, self.sites), (other.stored, other.sites)
        stored, sites = where(mask, mine, others)
        return replace(self, stored=stored, sites=sites)

    def concatenate(self, others: tuple["PyroParticles", ...]) -> "PyroParticles":
        """Return these particles and others of the same step behind them."""
        stored, sites = concatenate([(p.stored, p.sites) for p in (self, *others)])
        return replace(self, stored=stored, sites=sites)


def num_rows(tree: Any) -> int:
    """Return N, of a tree of which some containers may be empty."""
    for _, (values,) in components(tree):
        return len(values)
    raise InputError(
        "A program says by what it draws or stores how many particles there are. Got neither at a "
        "step; accepted: at least one site that is drawn, or one tensor in `state`."
    )
