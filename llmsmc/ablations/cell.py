"""A cell of an ablation: an algorithm with its models and settings, but no problem."""

from dataclasses import dataclass, fields, replace
from functools import cache
from types import NoneType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from llmsmc.core.checks import require_choice, require_count
from llmsmc.defaults import DEFAULT_SELECTION
from llmsmc.errors import InputError
from llmsmc.evaluation.configuration import Configuration, configuration
from llmsmc.evaluation.datasets import Dataset
from llmsmc.inference import Algorithm
from llmsmc.solving.algorithms import parse_algorithm
from llmsmc.solving.reward_loading import check_reward
from llmsmc.solving.settings import Settings
from llmsmc.solving.step_notation import parse_step
from llmsmc.storage.typed import mismatch, shown

EQUAL: Final = "equal"
"""In place of a number of particles: as many as cost the tokens of the budget."""

_IN_FILES: Final = (str, int, float, bool, dict, NoneType)
_SETTINGS: Final = tuple(each.name for each in fields(Settings) if each.name != "selection")
KEYS: Final = ("series", "algorithm", "particles", "selection", "budget", "in_flight", *_SETTINGS)
"""The keys that a cell of a plan may have."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the grid.

    Attributes:
        values: the values in the plan, by key.
        particles: N; None where the algorithm has its own, `EQUAL` where it is still to be found.
        settings: the models and their settings.
    """

    values: dict[str, Any]
    particles: int | str | None
    settings: Settings

    @property
    def series(self) -> str:
        """The curve or the row that the cell belongs to."""
        return str(self.values["series"])

    @property
    def selection(self) -> str:
        """The rule that selects answers, applied after the run; it does not change the run."""
        return str(self.values.get("selection", DEFAULT_SELECTION))

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm with its settings."""
        if self.particles == EQUAL:
            raise InputError("A cell at an equal budget has no number of particles yet.")
        particles = self.particles if isinstance(self.particles, int) else None
        return parse_algorithm(self.values["algorithm"], particles)

    @property
    def in_flight(self) -> int:
        """How many problems are under way at a time, sharing the batches of the models."""
        return int(self.values.get("in_flight", 1))

    def configuration(self, dataset: Dataset, seed: int) -> Configuration:
        """Return the configuration of its runs with a seed.

        It is that of `llmsmc eval` with as many problems under way.
        """
        together = {"in_flight": self.in_flight} if self.in_flight > 1 else {}
        return configuration(unselected(self.settings), self.algorithm, dataset, seed, together)

    def with_particles(self, particles: int) -> "Cell":
        """Return the same cell with another number of particles."""
        return make_cell(self.values | {"particles": particles})

    def matches(self, wanted: dict[str, Any]) -> bool:
        """Return whether the cell has these values, or one of those in a list."""
        return all(
            self.values.get(key) in (value if isinstance(value, list) else [value])
            for key, value in wanted.items()
        )


def make_cell(values: dict[str, Any]) -> Cell:
    """Return the cell of these values, which have been checked.

    Raises:
        InputError: a key, the algorithm or a setting is not known.
    """
    for key in values:
        require_choice("The key of a cell", key, KEYS)
    for key in ("series", "algorithm"):
        if not isinstance(values.get(key), str):
            raise InputError(
                f"A cell has a {key}. Got {shown(values.get(key))} in {shown(values)}; accepted: a "
                "text."
            )
    require_count("in_flight", values.get("in_flight", 1))
    for key in _SETTINGS:
        wrong = mismatch(_setting(values[key]), _plain(key), key) if key in values else None
        if wrong is not None:
            raise InputError(f"A setting is of another type: {wrong}.")
    particles = values.get("particles")
    if particles is not None and particles != EQUAL:
        require_count("particles", particles)
    given = {key: _setting(value) for key, value in values.items() if key in _SETTINGS}
    if isinstance(given.get("step"), str):
        given["step"] = parse_step(given["step"])
    settings = Settings(**given, selection=values.get("selection", DEFAULT_SELECTION))
    cell = Cell(values, particles, settings)
    # Finds out whether the algorithm can be read.
    algorithm = (cell.with_particles(16) if particles == EQUAL else cell).algorithm
    check_reward(settings, algorithm, has_answers=True)
    return cell


def unselected(settings: Settings) -> Settings:
    """Return the settings of the run alone, without how its answers are read."""
    return replace(settings, selection=DEFAULT_SELECTION)


@cache
def _plain(key: str) -> Any:
    """Return the annotation of a setting without the types that no file can hold."""
    kind = get_type_hints(Settings)[key]
    kinds = [each for each in get_args(kind) or (kind,) if (get_origin(each) or each) in _IN_FILES]
    return Union[tuple(kinds)]  # noqa: UP007


def _setting(value: Any) -> Any:
    """Return the value of a setting; TOML has no None, which is written "default"."""
    return None if value == "default" else value
