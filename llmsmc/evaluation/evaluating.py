"""From a set of questions and an algorithm to how often it is right."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsmc.core.checks import require_count
from llmsmc.defaults import DEFAULT_ALGORITHM, DEFAULT_IN_FLIGHT, DEFAULT_SEED
from llmsmc.evaluation.configuration import configuration
from llmsmc.evaluation.datasets import Dataset, Example, dataset_of, load, load_file
from llmsmc.evaluation.folder import EvaluationFolder, folder_of
from llmsmc.evaluation.runner import Result, block_size, evaluate_missing, runner
from llmsmc.inference import Algorithm
from llmsmc.solving.loading import loaded
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import chosen
from llmsmc.storage.folder_lock import lock_folder


@dataclass(frozen=True)
class Evaluation:
    """What came out of an evaluation.

    Attributes:
        results: one for each question, as in a line of `results.jsonl`, in the order of the
            questions; behind them those of other questions that the folder had already.
        figures: accuracy, standard error, tokens and more of all questions (`overall`) and of each
            level, with the errors by kind, as in `summary.json`.
        config: everything that the results depend on, as in `manifest.json`.
        folder: where these files are; None if they have not been kept.
    """

    results: tuple[Result, ...]
    figures: dict[str, Any]
    config: dict[str, Any]
    folder: Path | None

    @property
    def accuracy(self) -> float | None:
        """The share of questions that are answered right; None if all of them failed."""
        accuracy: float | None = self.figures["overall"]["accuracy"]
        return accuracy


def evaluate(
    dataset: str | Path | Dataset | Sequence[Example | Mapping[str, Any]],
    algorithm: str | Algorithm = DEFAULT_ALGORITHM,
    seed: int = DEFAULT_SEED,
    particles: int | None = None,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    within: str | Path | None = None,
    in_flight: int = DEFAULT_IN_FLIGHT,
    tokens_meanwhile: int = 0,
    retry_errors: bool = False,
    **settings: Any,
) -> Evaluation:
    """Return how often an algorithm is right on a set of questions, as `llmsmc eval` does.

    ```python
    evaluation = llmsmc.evaluate("minimath-500", "bootstrap", particles=8, out="runs/bootstrap")
    evaluation.accuracy, evaluation.figures["overall"]["standard_error"]
    ```

    A question that fails counts as wrong, and the others go on.

    Args:
        dataset: a name, the path of a .jsonl file, rows (`{"question": ..., "answer": ...}`), or a
            data set.
        algorithm: `NAME[:key=value,...]` as on the command line, or an algorithm.
        seed: from which, and from its id, the seed of each question is derived.
        particles: number of particles, for an algorithm given by name.
        limit: only so many questions, the first ones.
        out: the folder of the results; an evaluation that lies there is taken up again. Without
            one, nothing is kept.
        within: a folder in place of `out`, in which each configuration has one of its own.
        in_flight: how many questions are under way at a time, sharing the batches of the models.
        tokens_meanwhile: as in `llmsmc.solve_many`.
        retry_errors: whether questions that failed in an earlier run are tried again.
        settings: the fields of `llmsmc.solving.settings.Settings`.

    Raises:
        InputError: something that was given cannot be used, or the folder is that of another
            configuration.
        ServerError: a server is down; what has been written until then is kept.
    """
    require_count("in_flight", in_flight)
    require_count("tokens_meanwhile", tokens_meanwhile, minimum=0)
    if limit is not None:
        require_count("limit", limit)
    values, method = chosen(algorithm, particles, settings)
    with opened(
        _dataset(dataset, limit),
        method,
        values,
        seed,
        None if out is None else Path(out),
        None if within is None else Path(within),
        in_flight,
        tokens_meanwhile,
        retry_errors=retry_errors,
    ) as under_way:
        if not under_way.is_complete:
            under_way.load()
            for _ in under_way.missing():
                pass
        return under_way.concluded()


class UnderWay:
    """An evaluation that is being run, in a folder.

    Attributes:
        dataset: the questions.
        folder: what there is so far.
    """

    def __init__(
        self,
        dataset: Dataset,
        algorithm: Algorithm,
        settings: Settings,
        seed: int,
        folder: EvaluationFolder,
        in_flight: int,
        tokens_meanwhile: int,
        config: dict[str, Any],
        *,
        retry_errors: bool,
        is_kept: bool,
    ) -> None:
        """Take what is to be run, and where."""
        self.dataset, self.folder = dataset, folder
        self._algorithm, self._settings, self._seed = algorithm, settings, seed
        self._in_flight, self._tokens_meanwhile = in_flight, tokens_meanwhile
        self._config, self._is_kept = config, is_kept
        self._names = {example.id for example in dataset.examples}
        self._again = folder.failed & self._names if retry_errors else set[str]()

    @property
    def is_complete(self) -> bool:
        """Whether no question is left to be run."""
        return (self.folder.done - self._again).issuperset(self._names)

    def load(self) -> None:
        """Load the models."""
        models = loaded(self._settings, self._algorithm)
        self._run = runner(models, self._algorithm, self._in_flight, self._tokens_meanwhile)

    def missing(self) -> Iterator[Result]:
        """Run the questions that have no result; yield each result once it has been written."""
        self.folder.drop(self._again)
        for result in evaluate_missing(
            self.dataset.examples, self._run, self._seed, self._in_flight, self.folder.done
        ):
            self.folder.append(result)
            yield result

    def concluded(self) -> Evaluation:
        """Write the figures, and return everything."""
        figures = self.folder.write_summary()
        folder = self.folder.path if self._is_kept else None
        places = {example.id: place for place, example in enumerate(self.dataset.examples)}
        results = sorted(
            self.folder.results, key=lambda result: places.get(str(result["id"]), len(places))
        )
        return Evaluation(tuple(results), figures, self._config, folder)


@contextlib.contextmanager
def opened(
    dataset: Dataset,
    algorithm: Algorithm,
    settings: Settings,
    seed: int,
    out: Path | None,
    within: Path | None,
    in_flight: int,
    tokens_meanwhile: int,
    *,
    retry_errors: bool,
) -> Iterator[UnderWay]:
    """Open the folder of an evaluation, which nobody else writes to meanwhile; see `evaluate`.

    Raises:
        InputError: the folder is that of another configuration, or cannot be written to.
    """
    together = dict[str, Any]()
    if in_flight > 1:
        together |= {"in_flight": in_flight, "block_size": block_size(in_flight)}
        together |= {"tokens_meanwhile": tokens_meanwhile} if tokens_meanwhile else {}
    config = configuration(settings, algorithm, dataset, seed, together)
    with contextlib.ExitStack() as stack:
        path = out or (None if within is None else folder_of(within, config))
        is_kept = path is not None
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmsmc-")))
        stack.enter_context(lock_folder(path, "evaluation"))
        yield UnderWay(
            dataset,
            algorithm,
            settings,
            seed,
            EvaluationFolder(path, config),
            in_flight,
            tokens_meanwhile,
            config.values,
            retry_errors=retry_errors,
            is_kept=is_kept,
        )


def _dataset(
    given: str | Path | Dataset | Sequence[Example | Mapping[str, Any]], limit: int | None
) -> Dataset:
    """Return the questions that a caller means."""
    if isinstance(given, Dataset):
        return Dataset(given.name, given.fingerprint, given.examples[:limit])
    if isinstance(given, Path):
        return load_file(str(given), limit)
    return load(given, limit) if isinstance(given, str) else dataset_of("rows", given, limit)
