"""A plan on its data set: units that are left to run, equal budgets, and results so far."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Final

from llmsmc.ablations.cell import EQUAL, Cell
from llmsmc.ablations.comparing import Row
from llmsmc.ablations.figures import Runs
from llmsmc.ablations.labels import labels
from llmsmc.ablations.plan import Plan
from llmsmc.ablations.store import Store
from llmsmc.ablations.work import Unit, blocks
from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Dataset, Example

Complete = Callable[[Sequence[Unit]], None]
"""Runs units and adds their results to the store."""

_PILOT_PARTICLES: Final = 16
_SEARCH: Final = 64


class Study:
    """A plan with its problems and its results.

    Attributes:
        plan: the plan; after `settle` every cell has its number of particles.
        examples: the problems.
    """

    def __init__(self, plan: Plan, dataset: Dataset, store: Store) -> None:
        """Take the first problems of the data set, as many as the plan says."""
        self.plan, self._store = plan, store
        self.examples = dataset.examples[: plan.size.problems]
        self._pilot = dataset.examples[: plan.pilot_problems]

    def settle(self, complete: Complete) -> None:
        """Find the numbers of particles that cost the tokens of the budget.

        The cell of the budget and those at an equal one are run on a few problems with the first
        seed, the same ones whatever the size of the plan; tokens are taken to be proportional to
        particles.
        """
        if not any(cell.particles == EQUAL for cell in self.plan.cells):
            return
        examples, seeds = self._pilot, self.plan.size.seeds[:1]
        reference = self._reference()
        pilots = {
            number: _allowed(cell, min(_PILOT_PARTICLES, _count(reference)))
            for number, cell in enumerate(self.plan.cells)
            if cell.particles == EQUAL
        }
        complete(self._units([reference, *pilots.values()], examples, seeds))
        target = self._tokens(reference, examples, seeds)
        cells = list(self.plan.cells)
        for number, pilot in pilots.items():
            factor = target / max(self._tokens(pilot, examples, seeds), 1.0)
            cells[number] = _allowed(pilot, round(factor * _count(pilot)))
        self.plan = replace(self.plan, cells=tuple(cells))

    def units(self) -> list[Unit]:
        """Return the units that are left to run, each configuration once."""
        return self._units(self.plan.cells, self.examples, self.plan.size.seeds)

    def rows(self) -> list[Row]:
        """Return the cells with their runs so far."""
        cells = self.plan.cells
        named = labels([cell.values for cell in cells])
        return [Row(cell, self._runs(cell), name) for cell, name in zip(cells, named, strict=True)]

    def _runs(self, cell: Cell) -> Runs:
        if cell.particles == EQUAL:
            return {}
        return self._store.runs(cell, self.examples, self.plan.size.seeds)

    def _units(
        self, cells: Sequence[Cell], examples: tuple[Example, ...], seeds: tuple[int, ...]
    ) -> list[Unit]:
        found = list[Unit]()
        seen = set[str]()
        for cell in cells:
            for seed in seeds:
                name = self._store.name(cell, seed)
                if name in seen:
                    continue
                seen.add(name)
                done = frozenset(str(r["id"]) for r in self._store.results(cell, seed))
                units = [Unit(cell, seed, block, done) for block in blocks(examples)]
                found += [unit for unit in units if unit.left]
        return found

    def _reference(self) -> Cell:
        values = {key: v for key, v in self.plan.budget.items() if key != "problems"}
        found = [cell for cell in self.plan.cells if cell.matches(values)]
        if len(found) != 1 or not isinstance(found[0].particles, int):
            raise InputError(
                f"The budget is that of one cell. Got {len(found)} with {values!r}; accepted: "
                "values of a single cell that has a number of particles."
            )
        return found[0]

    def _tokens(self, cell: Cell, examples: tuple[Example, ...], seeds: tuple[int, ...]) -> float:
        runs = self._store.runs(cell, examples, seeds).values()
        return fmean(result["cost"]["generated_tokens"] for result in runs)


def _count(cell: Cell) -> int:
    assert isinstance(cell.particles, int)
    return cell.particles


def _allowed(cell: Cell, particles: int) -> Cell:
    """Return the cell with the nearest number of particles that its algorithm can have."""
    for distance in range(_SEARCH):
        for candidate in (particles + distance, particles - distance):
            try:
                return cell.with_particles(candidate)
            except InputError:
                continue
    raise InputError(
        f"No number of particles fits the budget. Got {particles} for {cell.series!r}; accepted: "
        "an algorithm that runs with a number near it."
    )
