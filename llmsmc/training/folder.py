"""The folder of a training: what each stage has made, and the configuration that it was made by.

* `config.json`: a section a stage with everything that the stage depends on, the versions, and when
  the training started;
* `samples.jsonl`, `labels.jsonl`: the rows of the first two stages;
* `features/`: what networks have computed of the solutions, for the training;
* `reward/`: the reward model, with `README.md`, `report.md` and `report.json`.

A stage is opened with its configuration. The folder refuses another one, so that its files always
belong together.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict

from llmsmc.errors import InputError
from llmsmc.evaluation.configuration import Configuration, Values
from llmsmc.storage.json_files import dumps, read_document, unwritable, versions, write_json
from llmsmc.storage.strict_files import FORMAT, loads, read_bytes, write_bytes
from llmsmc.training.lines import Lines

STAGES: Final = ("samples", "labels", "training", "report")
"""The stages in order; each begins where the one before has ended."""

_LINES: Final = ("samples", "labels")  # stages whose result is a file of rows


class _Config(TypedDict):
    """The entries of `config.json` that are read."""

    stages: dict[str, dict[str, Any]]
    versions: NotRequired[dict[str, str]]
    started: NotRequired[str]


class TrainingFolder:
    """A folder in which each stage belongs to one configuration.

    Attributes:
        path: the folder.
        stages: the configuration of each stage that has begun.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder, or make it.

        Raises:
            InputError: it cannot be written to, or has files of something else.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise unwritable(path, error) from error
        self.stages = _read(path / "config.json")
        for stage in _LINES:
            if stage not in self.stages and self.lines_path(stage).exists():
                raise InputError(
                    f"There are {stage}, but nothing says of what. Got {str(path)!r} without a "
                    "config.json for them; accepted: an empty folder, or one of an earlier "
                    "training."
                )

    @property
    def reward(self) -> Path:
        """Where the reward model is, or is to be."""
        return self.path / "reward"

    @property
    def features(self) -> Path:
        """Where it is kept what networks have computed of the solutions."""
        return self.path / "features"

    def lines_path(self, stage: str) -> Path:
        """Return the file of the rows of a stage."""
        return self.path / f"{stage}.jsonl"

    def open(self, stage: str, values: Values) -> None:
        """Begin a stage, or go on with it.

        Args:
            stage: one of `STAGES`.
            values: everything that its result depends on, besides the stages before.

        Raises:
            InputError: it was begun with another configuration, whose differences are listed; or
                nothing can be written here.
        """
        if stage not in self.stages:
            self.stages[stage] = _as_json(values)
            config = _document(self.path / "config.json") or {
                "format": FORMAT,
                "versions": versions(),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            write_json(self.path / "config.json", config | {"stages": self.stages})
            return
        changes = Configuration(values).changes_from(self.stages[stage])
        if changes:
            raise InputError(
                f"The {stage} of this folder belong to another configuration. Got "
                f"{'; '.join(changes)}. Accepted: the same configuration, or another folder, which "
                "can take over the stages before from this one (--reuse)."
            )

    def lines(self, stage: str) -> Lines:
        """Return the rows of a stage that has begun."""
        return Lines(self.lines_path(stage))

    def can_reuse(self, stage: str, values: Values, other: Path) -> bool:
        """Return whether a stage has not begun here, and has the same configuration elsewhere.

        Raises:
            InputError: the other folder is none of a training.
        """
        if self.lines_path(stage).exists():
            return False
        stages = _read(other / "config.json")
        if not stages:
            raise InputError(
                f"There is no training whose stages could be taken over. Got {str(other)!r}; "
                "accepted: a folder with the config.json of a training."
            )
        return stage in stages and not Configuration(values).changes_from(stages[stage])

    def reuse(self, stage: str, values: Values, other: Path) -> None:
        """Copy the rows of a stage from another folder, for which `can_reuse` holds.

        Raises:
            InputError: nothing can be written here.
        """
        self.open(stage, values)
        source = TrainingFolder(other).lines_path(stage)
        try:
            content = read_bytes(source) if source.exists() else b""
            write_bytes(self.lines_path(stage), content)
        except OSError as error:
            raise unwritable(self.path, error) from error


def _read(path: Path) -> dict[str, Values]:
    """Return the configurations of the stages in a file, none if there is no file."""
    document = _document(path)
    stages: dict[str, Values] = {} if document is None else document["stages"]
    return stages


def _document(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return read_document(path, _Config)
    except (OSError, ValueError) as error:
        raise InputError(
            f"This is not the configuration of a training: {error}. Got {str(path)!r}; accepted: "
            "an empty folder, or one of an earlier training."
        ) from error


def _as_json(values: Values) -> Values:
    """Return the entries as they are when they have been written and read."""
    read: Values = loads(dumps(values))
    return read
