"""The results of all cells, one folder for each configuration and seed.

A folder has the form of `llmsmc eval` (`llmsmc.evaluation.folder`), named by the hash of its
configuration, so that a cell which several ablations have in common is run once.
"""

from pathlib import Path

from llmsmc.ablations.cell import Cell
from llmsmc.ablations.figures import Runs
from llmsmc.evaluation.datasets import Dataset, Example
from llmsmc.evaluation.folder import EvaluationFolder, folder_of
from llmsmc.evaluation.runner import Result
from llmsmc.storage.folder_lock import lock_folder


class Store:
    """The results of cells on one data set, in a folder that is locked while this lives.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, dataset: Dataset) -> None:
        """Open the folder, or make it.

        Raises:
            InputError: it cannot be written to, or another process is at work in it.
        """
        self.path = path
        self._dataset = dataset
        self._paths: dict[str, Path] = {}
        self._folders: dict[str, EvaluationFolder] = {}
        self._lock = lock_folder(path, "ablation")

    def close(self) -> None:
        """Let others have the folder."""
        self._lock.lock.release()

    def name(self, cell: Cell, seed: int) -> str:
        """Return the name of the folder of a cell and a seed."""
        return cell.configuration(self._dataset, seed).folder_name

    def results(self, cell: Cell, seed: int) -> list[Result]:
        """Return the results of a cell with a seed."""
        folder = self._folder(cell, seed, make=False)
        return [] if folder is None else folder.results

    def add(self, cell: Cell, seed: int, result: Result) -> None:
        """Write one more result."""
        folder = self._folder(cell, seed, make=True)
        assert folder is not None
        folder.append(result)

    def runs(self, cell: Cell, examples: tuple[Example, ...], seeds: tuple[int, ...]) -> Runs:
        """Return the results of a cell on these problems with these seeds."""
        wanted = {example.id for example in examples}
        return {
            (result["id"], seed): result
            for seed in seeds
            for result in self.results(cell, seed)
            if result["id"] in wanted
        }

    def _folder(self, cell: Cell, seed: int, *, make: bool) -> EvaluationFolder | None:
        config = cell.configuration(self._dataset, seed)
        name = config.folder_name
        if name not in self._folders:
            if name not in self._paths:
                self._paths[name] = folder_of(self.path, config)
            path = self._paths[name]
            if not (make or path.is_dir()):
                return None
            self._folders[name] = EvaluationFolder(path, config)
        return self._folders[name]
