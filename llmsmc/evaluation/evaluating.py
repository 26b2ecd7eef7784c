"""Evaluation of an algorithm on a set of questions."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmsmc.core.checks import require_count
from llmsmc.defaults import DEFAULT_ALGORITHM, DEFAULT_IN_FLIGHT, DEFAULT_SEED
from llmsmc.evaluation.configuration import Configuration, configuration
from llmsmc.evaluation.datasets import (
    Dataset,
    Example,
    answers_of,
    dataset_of,
    load,
    load_file,
)
from llmsmc.evaluation.folder import EvaluationFolder, folder_of
from llmsmc.evaluation.runner import Result, evaluate_missing, runner
from llmsmc.evaluation.solutions import FILE, Keeper, Solutions, read_solutions
from llmsmc.inference import Algorithm
from llmsmc.solving.loading import loaded
from llmsmc.solving.machine import Machine, machine_of
from llmsmc.solving.settings import Settings
from llmsmc.solving.solver import chosen
from llmsmc.storage.folder_lock import lock_folder


@dataclass(frozen=True)
class Evaluation:
    """The outcome of an evaluation.

    Attributes:
        results: one for each question, as in a line of `results.jsonl`, in the order of the
            questions; results of other questions that the folder had already come last.
        figures: accuracy, standard error, tokens and more of all questions (`overall`) and of each
            level, with the errors by kind and how the policy was computed (`machine`), as in
            `summary.json`.
        config: everything that the results depend on, as in `manifest.json`.
        folder: where these files are; None if they have not been kept.
        solutions: what was kept of the texts, by the id of the question; see
            `llmsmc.evaluation.solutions.read_solutions`.
    """

    results: tuple[Result, ...]
    figures: dict[str, Any]
    config: dict[str, Any]
    folder: Path | None
    solutions: dict[str, Solutions] = field(default_factory=dict, repr=False)

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
    range: str | None = None,
    out: str | Path | None = None,
    within: str | Path | None = None,
    in_flight: int = DEFAULT_IN_FLIGHT,
    tokens_meanwhile: int = 0,
    retry_errors: bool = False,
    solutions: str = "selected",
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
        range: only the questions at these places, counted from 1: "501:", ":500" or "501:600",
            both included. Where there is a limit, too, the first ones of these.
        out: the folder of the results; an evaluation that lies there is taken up again. Without
            one, nothing is kept.
        within: a folder in place of `out`, in which each configuration has one of its own.
        in_flight: how many questions are under way at a time, sharing the batches of the models.
        tokens_meanwhile: as in `llmsmc.solve_many`.
        retry_errors: whether questions that failed in an earlier run are tried again.
        solutions: which texts are kept of each question: those of the "selected" solution, of
            "all", or "none".
        settings: the fields of `llmsmc.solving.settings.Settings`.

    Raises:
        InputError: an argument cannot be used, or the folder belongs to another configuration.
        ServerError: a server is down; the results until then are kept.
    """
    require_count("in_flight", in_flight)
    require_count("tokens_meanwhile", tokens_meanwhile, minimum=0)
    if limit is not None:
        require_count("limit", limit)
    values, method = chosen(
        algorithm, particles, settings, has_answers=True, tokens_meanwhile=tokens_meanwhile
    )
    asked = _dataset(dataset).part(range, limit)
    job = Job(asked, method, values, seed, in_flight, tokens_meanwhile, retry_errors, solutions)
    folders = (None if folder is None else Path(folder) for folder in (out, within))
    with opened(job, *folders) as under_way:
        if not under_way.is_complete:
            under_way.load()
            for _ in under_way.missing():
                pass
        return under_way.concluded()


@dataclass(frozen=True, eq=False)
class Job:
    """An evaluation to be run.

    Attributes:
        dataset: the questions.
        algorithm: the algorithm that answers them.
        settings: the models and their settings.
        seed: the seed from which, and from its id, the seed of each question is derived.
        in_flight: how many questions are under way at a time, sharing the batches of the models.
        tokens_meanwhile: how many tokens of other questions are drawn while steps are scored.
        retry_errors: whether questions that failed in an earlier run are tried again.
        solutions: which solutions are kept, one of `llmsmc.evaluation.solutions.WHICH`.
    """

    dataset: Dataset
    algorithm: Algorithm
    settings: Settings
    seed: int
    in_flight: int = 1
    tokens_meanwhile: int = 0
    retry_errors: bool = False
    solutions: str = "selected"

    def configuration(self) -> Configuration:
        """Return everything that the results depend on."""
        together = {"in_flight": self.in_flight} if self.in_flight > 1 else {}
        if self.in_flight > 1 and self.tokens_meanwhile:
            together |= {"tokens_meanwhile": self.tokens_meanwhile}
        return configuration(self.settings, self.algorithm, self.dataset, self.seed, together)


class UnderWay:
    """An evaluation in progress.

    Attributes:
        job: the evaluation to be run.
        folder: the folder with the results so far.
    """

    def __init__(
        self, job: Job, folder: EvaluationFolder, config: Configuration, *, is_kept: bool
    ) -> None:
        """Find out which questions are tried again."""
        self.job, self.folder = job, folder
        self._config, self._is_kept = config.values, is_kept
        self._keeper = Keeper(job.solutions)
        self._names = {example.id for example in job.dataset.examples}
        self._again = folder.failed & self._names if job.retry_errors else set[str]()
        self._machine: Machine | None = None

    @property
    def is_complete(self) -> bool:
        """Whether no question is left to be run."""
        return (self.folder.done - self._again).issuperset(self._names)

    def load(self) -> None:
        """Load the models."""
        job = self.job
        models = loaded(job.settings, job.algorithm, answers_of(job.dataset.examples))
        assert not isinstance(models.policy, str | Path), "it is loaded"
        together = min(job.in_flight, len(job.dataset.examples))
        self._machine = machine_of(models.policy, job.settings, job.algorithm, together)
        run = runner(models, job.algorithm, job.in_flight, job.tokens_meanwhile)
        self._run = self._keeper.recording(run)

    def missing(self) -> Iterator[Result]:
        """Run the questions that have no result; yield each result once it has been written."""
        self.folder.drop(self._again)
        job, done = self.job, self.folder.done
        for result in evaluate_missing(
            job.dataset.examples, self._run, job.seed, job.in_flight, done
        ):
            self.folder.append(result, self._keeper.take(str(result["id"])))
            yield result

    def concluded(self) -> Evaluation:
        """Write the figures, and return everything."""
        figures = self.folder.write_summary(self._machine)
        folder = self.folder.path if self._is_kept else None
        places = {example.id: place for place, example in enumerate(self.job.dataset.examples)}
        results = sorted(
            self.folder.results, key=lambda result: places.get(str(result["id"]), len(places))
        )
        path = self.folder.path
        kept = read_solutions(path) if (path / FILE).exists() else {}
        return Evaluation(tuple(results), figures, self._config, folder, kept)


@contextlib.contextmanager
def opened(job: Job, out: Path | None, within: Path | None) -> Iterator[UnderWay]:
    """Open the folder of an evaluation, and lock it; see `evaluate`.

    Raises:
        InputError: the folder belongs to another configuration, or cannot be written to.
    """
    config = job.configuration()
    with contextlib.ExitStack() as stack:
        path = out or (None if within is None else folder_of(within, config))
        is_kept = path is not None
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmsmc-")))
        stack.enter_context(lock_folder(path, "evaluation"))
        yield UnderWay(job, EvaluationFolder(path, config), config, is_kept=is_kept)


def _dataset(given: str | Path | Dataset | Sequence[Example | Mapping[str, Any]]) -> Dataset:
    """Return the data set for an argument of `evaluate`."""
    if isinstance(given, Dataset):
        return given
    if isinstance(given, Path):
        return load_file(str(given))
    return load(given) if isinstance(given, str) else dataset_of("rows", given)
