"""The results of all cells, one folder for each configuration and seed.

A folder is that of `llmsmc eval` (`llmsmc.evaluation_folder`), named by the hash of its
configuration, so that a cell which several ablations have in common is run once.
"""

from pathlib import Path

from llmsmc.ablations.cell import Cell
from llmsmc.ablations.figures import Runs
from llmsmc.datasets import Dataset, Example
from llmsmc.evaluation import Result
from llmsmc.evaluation_folder import Config, EvaluationFolder, folder_name
from llmsmc.folder_lock import lock_folder


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
        self._folders: dict[str, EvaluationFolder] = {}
        self._lock = lock_folder(path, "ablation")

    def close(self) -> None:
        """Let others have the folder."""
        self._lock.lock.release()

    def config(self, cell: Cell, seed: int) -> Config:
        """Return the configuration of a cell and a seed."""
        return cell.config(self._dataset.name, self._dataset.fingerprint, seed)

    def name(self, cell: Cell, seed: int) -> str:
        """Return the name of their folder."""
        return folder_name(self.config(cell, seed))

    def results(self, cell: Cell, seed: int) -> list[Result]:
        """Return what has been written of a cell and a seed."""
        name = self.name(cell, seed)
        if name not in self._folders and not (self.path / name).is_dir():
            return []
        return self._folder(cell, seed).results

    def add(self, cell: Cell, seed: int, result: Result) -> None:
        """Write one more result."""
        self._folder(cell, seed).append(result)

    def runs(self, cell: Cell, examples: tuple[Example, ...], seeds: tuple[int, ...]) -> Runs:
        """Return what there is of a cell on these problems with these seeds."""
        wanted = {example.id for example in examples}
        return {
            (result["id"], seed): result
            for seed in seeds
            for result in self.results(cell, seed)
            if result["id"] in wanted
        }

    def _folder(self, cell: Cell, seed: int) -> EvaluationFolder:
        name = self.name(cell, seed)
        if name not in self._folders:
            config = self.config(cell, seed)
            self._folders[name] = EvaluationFolder(self.path / name, config)
        return self._folders[name]
