"""Plans as they are written, in TOML.

```toml
title = "..."
figure = "Fig. 2"                  # where the paper has it
claim = "..."
caution = "..."

[run]
dataset = "minimath-500"
problems = 100                     # the first ones
seeds = [0, 1, 2]

[quick]                            # what --quick makes of it
problems = 10
seeds = [0]
max_particles = 8                  # larger numbers become this one
only = { particles = [1, 4] }      # other cells are left out

[all]                              # what all cells have, unless they say otherwise
policy = "minimath-policy"

[[cells]]                          # the product over all lists
series = "particle filter"
algorithm = "bootstrap"
particles = [1, 2, 4]              # or "equal": as many as cost the tokens of the budget

[budget]                           # a cell; its tokens are what "equal" means
series = "particle filter"
particles = 4

[[comparisons]]                    # left minus right, on the same problems and seeds
claim = "..."
left = { series = "particle filter", particles = [2, 4] }    # either
right = { series = "weighted best of N" }
same = ["particles"]               # what the two of a pair have in common
rule = "greater"                   # or "no less", "equal", with a margin
published = "59.6 against 47.8"

[plot]
x = "particles"                    # on the horizontal axis; bars where there is none
rows = "policy"                    # one row of panels for each

[published]
caption = "..."
columns = ["method", "1", "2"]
rows = [["PF", 0.208, 0.312]]
```
"""

import itertools
import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict, get_type_hints

from llmsmc.ablations.cell import EQUAL, KEYS, make_cell
from llmsmc.ablations.names import PLANS
from llmsmc.ablations.plan import Comparison, Plan, Size, distinct
from llmsmc.core.checks import require_choice, require_count
from llmsmc.errors import InputError
from llmsmc.storage.characters import one_line
from llmsmc.storage.typed import described, mismatch, shown

_TEXTS: Final = ("title", "figure", "claim", "caution")
_MAX_CELLS: Final = 1000
_MAX_REASON: Final = 2000  # characters

Scalar = bool | int | float | str


_Values = dict[str, Scalar | list[Scalar | dict[str, Any]] | dict[str, Any]]


class Published(TypedDict):
    """Figures of the paper."""

    caption: NotRequired[str]
    columns: list[Scalar]
    rows: list[list[Scalar]]


class Plot(TypedDict, total=False):
    """Keys of cells."""

    x: str
    rows: str


class Run(TypedDict):
    """The data set; the rest of the table is a `Size`."""

    dataset: str


class _Tables(TypedDict):
    """The tables of a plan, and their types."""

    title: NotRequired[str]
    figure: NotRequired[str]
    claim: NotRequired[str]
    caution: NotRequired[str]
    run: Run
    quick: dict[str, Any]
    all: NotRequired[_Values]
    cells: NotRequired[list[_Values]]
    budget: NotRequired[dict[str, Scalar]]
    comparisons: NotRequired[list[dict[str, Any]]]
    plot: NotRequired[Plot]
    published: NotRequired[Published]


def load_plan(name_or_path: str) -> Plan:
    """Return a plan by its name, or that in a file.

    Raises:
        InputError: there is no such plan, or the file cannot be used.
    """
    if name_or_path in PLANS:
        return read_plan(name_or_path, PLANS[name_or_path].read_text("utf-8"))
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise InputError(
            f"There is no such ablation. Got {name_or_path!r}; accepted: {', '.join(PLANS)}, or "
            "a .toml file."
        )
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"The plan {name_or_path!r} cannot be read: {error}. Accepted: a .toml file."
        ) from error
    return read_plan(path.stem, text, name_or_path)


def read_plan(name: str, text: str, source: str | None = None) -> Plan:
    """Return the plan that a TOML text describes; `source` is the file, for errors.

    Raises:
        InputError: it is no plan; the message has the reason.
    """
    try:
        return _plan(name, tomllib.loads(text))
    except RecursionError as error:
        raise InputError(
            f"The plan {source or name} cannot be used: it is nested too deeply."
        ) from error
    except ValueError as error:  # of this library, of the parser, and of the numbers in it
        reason = one_line(str(error), _MAX_REASON)
        raise InputError(f"The plan {source or name} cannot be used: {reason}") from error


def _plan(name: str, table: dict[str, Any]) -> Plan:
    for key in table:
        require_choice("The key of a plan", key, list(get_type_hints(_Tables)))
    wrong = next(_unusable(table), None) or mismatch(table, _Tables)
    if wrong is not None:
        raise InputError(f"Something is of another type: {wrong}.")
    run, common = table["run"], table.get("all", {})
    cells = distinct(
        make_cell(values) for block in table.get("cells", []) for values in _product(common | block)
    )
    if not cells:
        raise InputError("The grid is empty. Got no cells; accepted: at least one [[cells]].")
    plan = Plan(
        name=name,
        texts={key: table.get(key, "") for key in _TEXTS},
        dataset=run["dataset"],
        size=_made(Size, {key: value for key, value in run.items() if key != "dataset"}, "run"),
        quick=_made(Size, table["quick"], "quick"),
        cells=cells,
        budget=table.get("budget", {}),
        comparisons=tuple(
            _made(Comparison, each, "comparisons") for each in table.get("comparisons", [])
        ),
        plot=table.get("plot", {}),
        published=table.get("published", {}),
    )
    _check(plan)
    return plan


def _unusable(value: Any, name: str = "") -> Iterator[str]:
    """Yield where something is that no plan has: dates, numbers that are none, or far too large."""
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _unusable(child, f"{name}.{key}" if name else str(key))
    elif mismatch(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
        yield f"{name} is {shown(value)}; accepted: {described(Scalar)}"


def _check(plan: Plan) -> None:
    """Check, before anything is run, that the cells that the plan refers to exist."""
    for comparison in plan.comparisons:
        comparison.pairs(plan.cells)
    for key in plan.plot:
        require_choice("The key of [plot]", key, ("x", "rows"))
        require_choice(f"[plot] {key}", plan.plot[key], KEYS)
    for key in plan.published:
        require_choice("The key of [published]", key, ("caption", "columns", "rows"))
    widths = {
        len(row) for row in (plan.published.get("columns", []), *plan.published.get("rows", []))
    }
    if len(widths) > 1:
        raise InputError("The rows of [published] have one entry a column. Got other widths.")
    require_count("[budget] problems", plan.budget.get("problems", 1))
    wanted = [(each.claim, side) for each in plan.comparisons for side in (each.left, each.right)]
    if plan.budget or any(cell.particles == EQUAL for cell in plan.cells):
        budget = {key: value for key, value in plan.budget.items() if key != "problems"}
        wanted.append(("the budget", budget or {"series": "(none)"}))
    for where, values in wanted:
        if not any(cell.matches(values) for cell in plan.cells):
            raise InputError(
                f"There is no cell with these values. Got {shown(values)} in {where!r}; accepted: "
                "values that some cells have."
            )


def _product(block: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield the values of each cell of a block."""
    lists = [value if isinstance(value, list) else [value] for value in block.values()]
    count = math.prod(len(each) for each in lists)
    if count > _MAX_CELLS:
        raise InputError(
            f"A block of cells is the product of its lists. Got {shown(count)} cells; accepted: at "
            f"most {_MAX_CELLS}."
        )
    for combination in itertools.product(*lists):
        yield dict(zip(block, combination, strict=True))


def _made(cls: type[Any], values: dict[str, Any], where: str) -> Any:
    """Return a dataclass of the values of a table; lists become tuples."""
    accepted = [each.name for each in fields(cls)]
    for key in values:
        require_choice(f"The key of [{where}]", key, accepted)
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    kinds = get_type_hints(cls)
    for key, value in tuples.items():
        wrong = mismatch(value, kinds[key], f"[{where}] {key}")
        if wrong is not None:
            raise InputError(f"Something is of another type: {wrong}.")
    try:
        return cls(**tuples)
    except TypeError as error:
        raise InputError(
            f"[{where}] lacks something. Got {shown(values)}; accepted: {', '.join(accepted)}."
        ) from error
