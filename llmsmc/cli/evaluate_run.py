"""What `llmsmc eval` does, once its options have been read."""

from pathlib import Path

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llmsmc.algorithms import describe_algorithm
from llmsmc.cli import console
from llmsmc.cli.errors import INTERRUPTED, print_error
from llmsmc.cli.evaluation_table import evaluation_table
from llmsmc.datasets import Dataset, Example
from llmsmc.evaluation import Run, evaluate_each
from llmsmc.evaluation_folder import EvaluationFolder, folder_name
from llmsmc.inference import Algorithm
from llmsmc.posterior import Posterior
from llmsmc.solving import Settings, answered, loaded, reasoning


def evaluate(
    dataset: Dataset,
    algorithm: Algorithm,
    settings: Settings,
    seed: int,
    out: Path | None = None,
) -> None:
    """Run the algorithm on all examples that have no result yet, and print the figures of all.

    Args:
        dataset: the examples.
        algorithm: how to solve them.
        settings: with which models.
        seed: from which, and from its id, that of each example is derived.
        out: the folder of the results; by default one of that configuration alone.
    """
    config = settings.config() | {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "algorithm": describe_algorithm(algorithm),
        "seed": seed,
    }
    folder = EvaluationFolder(out or Path("runs") / folder_name(config), config)
    done = folder.done
    left = [example for example in dataset.examples if example.id not in done]
    try:
        if left:
            with console.waiting(f"Loading {settings.policy}"):
                run = _runner(algorithm, settings)
            _append_each(folder, left, run, seed, len(dataset.examples))
    except KeyboardInterrupt:
        count = len(folder.results)
        print_error(f"interrupted after {count} results; the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    screen = console.results()
    figures = folder.write_summary()
    screen.print(evaluation_table(figures))
    for each in figures["not_compared"]:
        remark = f"{each['id']}: counted as wrong, could not be compared ({each['grading']})"
        screen.print(console.foreign(remark, "yellow"))
    screen.print(console.foreign(f"Results: {folder.path}", "dim"))


def _runner(algorithm: Algorithm, settings: Settings) -> Run:
    """Load the models once, and return the function that runs on one example."""
    models = loaded(settings, algorithm)

    def run(example: Example, seed: int) -> Posterior:
        posterior = algorithm.run(reasoning(example.question, models, algorithm), seed=seed)
        return answered(posterior, settings)

    return run


def _append_each(
    folder: EvaluationFolder, left: list[Example], run: Run, seed: int, total: int
) -> None:
    """Write one result after the other, with a bar that shows how far it is and how good."""
    screen = console.progress()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left, {task.fields[accuracy]} right"),
        console=screen,
        transient=True,
        disable=not console.is_animated(screen),
    ) as progress:
        task = progress.add_task(
            "Solving", total=total, completed=total - len(left), accuracy=_accuracy(folder)
        )
        for result in evaluate_each(left, run, seed):
            folder.append(result)
            progress.update(task, advance=1, accuracy=_accuracy(folder))


def _accuracy(folder: EvaluationFolder) -> str:
    results = folder.results
    if not results:
        return "-"
    return f"{sum(bool(result['correct']) for result in results) / len(results):.1%}"
