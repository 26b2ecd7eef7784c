"""The configuration of an evaluation, as it is written down beside the results.

A configuration is written in full. Two of them are the same if they differ only in entries that one
of the two lacks, and that have in the other the value which stands for an absent entry: the default
of the setting. A setting that is added to the code, with a default under which nothing changes,
therefore leaves the hash of every configuration as it was, and results of earlier versions are
taken up. Where the default of a setting changes, `FIRST_DEFAULTS` keeps the first one, and `FORMER`
has the entries that are written no more.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llmsmc.evaluation.datasets import Dataset, fingerprint
from llmsmc.inference import Algorithm
from llmsmc.registry import is_reference
from llmsmc.solving.algorithms import default_description, describe_algorithm
from llmsmc.solving.settings import Settings
from llmsmc.storage.characters import one_line
from llmsmc.storage.json_files import dumps

Values = dict[str, Any]

FIRST_DEFAULTS: Final[Values] = {}
"""Setting -> the default that it had when it was added, where it has another one now."""

FORMER: Final = frozenset({"block_size"})
"""Entries of earlier versions on which no result depends any more."""

_MAX_SHOWN: Final = 200  # characters of a value in an error


@dataclass(frozen=True)
class Configuration:
    """Everything that the results of an evaluation depend on.

    Attributes:
        values: the entries, as in a JSON file.
        defaults: the value that an absent entry stands for, where it stands for any.
    """

    values: Values
    defaults: Values = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """A short hash of the entries that differ from their defaults."""
        values = _in_use(_as_json(self.values))
        text = json.dumps(_without(values, self.defaults), sort_keys=True)
        return fingerprint(text)

    @property
    def subject(self) -> str:
        """The data set and the algorithm, with which the names of its folders begin."""
        dataset, algorithm = self.values["dataset"], self.values["algorithm"]["name"]
        name = dataset if is_reference(dataset) else Path(dataset).stem
        return f"{name}-{algorithm}".replace(":", ".")  # which no name of a folder has everywhere

    @property
    def folder_name(self) -> str:
        """The name of a folder that no other configuration has."""
        return f"{self.subject}-{self.hash}"

    def changes_from(self, there: Values) -> list[str]:
        """Return the differences from a configuration that has been read, in words."""
        return _changes(_in_use(there), _in_use(_as_json(self.values)), self.defaults)


def configuration(
    settings: Settings, algorithm: Algorithm, dataset: Dataset, seed: int, together: Values
) -> Configuration:
    """Return the configuration of an evaluation.

    Args:
        settings: which models reason, and how.
        algorithm: the algorithm.
        dataset: the questions.
        seed: the seed from which the seed of each question is derived.
        together: how many questions are under way at a time, where that is more than one.
    """
    values = settings.config() | together
    values |= {"dataset": dataset.name, "fingerprint": dataset.fingerprint}
    values |= {"algorithm": describe_algorithm(algorithm), "seed": seed}
    defaults = settings.default_config() | {"algorithm": default_description(algorithm)}
    return Configuration(values, defaults | FIRST_DEFAULTS)


def _as_json(values: Values) -> Values:
    """Return the entries as they are when they have been written and read."""
    read: Values = json.loads(dumps(values))
    return read


def _in_use(values: Values) -> Values:
    """Return the entries on which results depend."""
    return {key: value for key, value in values.items() if key not in FORMER}


def _without(values: Values, defaults: Values) -> Values:
    """Return the entries that have not the value of an absent one."""
    kept = dict[str, Any]()
    for key, value in values.items():
        default = defaults.get(key, ...)
        if isinstance(value, dict) and isinstance(default, dict):
            kept[key] = _without(value, default)
        elif value != default:
            kept[key] = value
    return kept


def _changes(there: Any, here: Any, defaults: Any, name: str = "") -> list[str]:
    """Return the differences between two values, in words."""
    if isinstance(there, dict) and isinstance(here, dict):
        prefix, absent = f"{name}." if name else "", defaults if isinstance(defaults, dict) else {}
        return [
            change
            for key in sorted(there.keys() | here.keys())
            for change in _changes(
                there.get(key, absent.get(key)),
                here.get(key, absent.get(key)),
                absent.get(key),
                f"{prefix}{key}",
            )
        ]
    return [] if there == here else [f"{name} {_shown(here)}, which is {_shown(there)} there"]


def _shown(value: Any) -> str:
    return one_line(dumps(value), _MAX_SHOWN)
