"""The plan of an ablation: its cells, its size, and its comparisons."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from llmsmc.ablations.cell import KEYS, Cell, make_cell
from llmsmc.core.checks import require_choice, require_count
from llmsmc.errors import InputError

RULES: Final = ("greater", "no less", "equal")
PILOT_PROBLEMS: Final = 20  # on which equal budgets are found, if the plan does not say
METRICS: Final = ("accuracy", "probability_correct", "log_score")


@dataclass(frozen=True)
class Comparison:
    """Cells beside others, with the rule that gives the verdict.

    Attributes:
        claim: the claim.
        left: the cells that the claim is about, by some of their values.
        right: the cells that they are compared with.
        same: keys in which the two cells of a pair agree.
        rule: "greater": left is above right; "no less": not below it by more than the margin;
            "equal": apart by no more than the margin.
        margin: a difference that does not matter.
        metric: the metric that is compared.
        published: the figures of the paper, as a text.
    """

    claim: str
    left: dict[str, Any]
    right: dict[str, Any]
    same: tuple[str, ...] = ()
    rule: str = "greater"
    margin: float = 0.0
    metric: str = "accuracy"
    published: str = ""

    def __post_init__(self) -> None:
        """Check the rule, the metric and the keys."""
        require_choice("rule", self.rule, RULES)
        require_choice("metric", self.metric, METRICS)
        for key in (*self.left, *self.right, *self.same):
            require_choice("The key of a comparison", key, KEYS)
        if self.rule != "greater" and not self.margin > 0:
            raise InputError(
                f"The rule {self.rule!r} needs a margin. Got {self.margin!r}; accepted: margin > 0."
            )

    def pairs(self, cells: Sequence[Cell]) -> list[tuple[int, int]]:
        """Return the places of the cells that are compared, left and right.

        Raises:
            InputError: a cell has several partners.
        """
        found = []
        for place, cell in enumerate(cells):
            if not cell.matches(self.left):
                continue
            wanted = self.right | {key: cell.values.get(key) for key in self.same}
            partners = [other for other, each in enumerate(cells) if each.matches(wanted)]
            if len(partners) > 1:
                raise InputError(
                    f"A cell is compared with one other. Got {len(partners)} partners of "
                    f"{cell.series!r} in {self.claim!r}; accepted: keys in `same` or `right` that "
                    "leave one."
                )
            found += [(place, partner) for partner in partners if partner != place]
        return found


@dataclass(frozen=True)
class Size:
    """How much is run: the first problems of the set, each with every seed."""

    problems: int
    seeds: tuple[int, ...]
    max_particles: int | None = None
    only: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the counts."""
        require_count("problems", self.problems)
        if not self.seeds or not all(type(seed) is int for seed in self.seeds):
            raise InputError(f"Seeds are integers. Got {self.seeds!r}; accepted: at least one.")
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"A seed is run once. Got {self.seeds!r}; accepted: different seeds.")


@dataclass(frozen=True)
class Plan:
    """A plan that has been read and checked.

    Attributes:
        name: of the ablation.
        texts: title, figure, claim and caution.
        dataset: the name or the file of the problems.
        size: how much of it is run.
        quick: how much where there is little time.
        cells: the cells, in order.
        budget: the values of the cell whose tokens "equal" means.
        comparisons: the comparisons.
        plot: the key on the horizontal axis, "x", and the key whose values have a row each, "rows".
        published: caption, columns and rows of the figures of the paper.
    """

    name: str
    texts: dict[str, str]
    dataset: str
    size: Size
    quick: Size
    cells: tuple[Cell, ...]
    budget: dict[str, Any]
    comparisons: tuple[Comparison, ...]
    plot: dict[str, Any]
    published: dict[str, Any]

    @property
    def pilot_problems(self) -> int:
        """On how many problems the numbers of particles of equal budgets are found."""
        return int(self.budget.get("problems", PILOT_PROBLEMS))

    def reduced(self) -> "Plan":
        """Return the plan at its quick size."""
        cells = [cell for cell in self.cells if _is_kept(cell, self.quick.only)]
        limit = self.quick.max_particles
        if limit is not None:
            cells = [
                cell.with_particles(min(limit, cell.particles))
                if isinstance(cell.particles, int)
                else cell
                for cell in cells
            ]
        budget = self.budget
        if limit is not None and isinstance(budget.get("particles"), int):
            budget = budget | {"particles": min(limit, budget["particles"])}
        return replace(self, size=self.quick, cells=distinct(cells), budget=budget)

    def overridden(self, **values: Any) -> "Plan":
        """Return the plan with some values in all cells; cells that become one are one."""
        given = {key: value for key, value in values.items() if value is not None}
        if not given:
            return self
        return replace(self, cells=distinct(make_cell(cell.values | given) for cell in self.cells))

    def sized(
        self, dataset: str | None, problems: int | None, seeds: tuple[int, ...] | None
    ) -> "Plan":
        """Return the plan on another data set, with other problems or other seeds."""
        size = replace(
            self.size,
            problems=self.size.problems if problems is None else problems,
            seeds=self.size.seeds if seeds is None else seeds,
        )
        budget = self.budget
        if problems is not None and budget:
            budget = budget | {"problems": min(problems, self.pilot_problems)}
        dataset = self.dataset if dataset is None else dataset
        return replace(self, size=size, dataset=dataset, budget=budget)


def distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return the cells without repetitions of the same values."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(repr(sorted(cell.values.items())), cell)
    return tuple(found.values())


def _is_kept(cell: Cell, only: dict[str, list[Any]]) -> bool:
    return all(key not in cell.values or cell.values[key] in kept for key, kept in only.items())
