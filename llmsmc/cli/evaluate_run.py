"""What `llmsmc eval` does, once its options have been read."""

from collections.abc import Iterator
from pathlib import Path

import typer
from rich.progress import MofNCompleteColumn

from llmsmc.algorithms import describe_algorithm
from llmsmc.cli import console
from llmsmc.cli.errors import INTERRUPTED, print_error
from llmsmc.cli.evaluation_table import evaluation_table
from llmsmc.cli.progress import progress_bar
from llmsmc.datasets import Dataset
from llmsmc.evaluation import Result, block_size, evaluate_missing, runner
from llmsmc.evaluation_folder import EvaluationFolder, folder_name
from llmsmc.inference import Algorithm
from llmsmc.loading import loaded
from llmsmc.settings import Settings


def evaluate(
    dataset: Dataset,
    algorithm: Algorithm,
    settings: Settings,
    seed: int,
    out: Path | None = None,
    in_flight: int = 1,
    tokens_meanwhile: int = 0,
) -> None:
    """Run the algorithm on all examples that have no result yet, and print the figures of all.

    Args:
        dataset: the examples.
        algorithm: how to solve them.
        settings: with which models.
        seed: from which, and from its id, that of each example is derived.
        out: the folder of the results; by default one of that configuration alone.
        in_flight: how many examples are under way at a time, sharing the batches of the models.
        tokens_meanwhile: how many tokens of the others are drawn while steps of some are scored.
    """
    config = settings.config() | {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "algorithm": describe_algorithm(algorithm),
        "seed": seed,
    }
    if in_flight > 1:
        config |= {"in_flight": in_flight, "block_size": block_size(in_flight)}
        config |= {"tokens_meanwhile": tokens_meanwhile} if tokens_meanwhile else {}
    folder = EvaluationFolder(out or Path("runs") / folder_name(config), config)
    try:
        if not folder.done.issuperset(example.id for example in dataset.examples):
            with console.waiting(f"Loading {settings.policy}"):
                models = loaded(settings, algorithm)
                run = runner(models, algorithm, in_flight, tokens_meanwhile)
            results = evaluate_missing(dataset.examples, run, seed, in_flight, folder.done)
            _append_each(folder, results, len(dataset.examples))
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


def _append_each(folder: EvaluationFolder, results: Iterator[Result], total: int) -> None:
    """Write one result after the other, with a bar that shows how far it is and how good."""
    with progress_bar(MofNCompleteColumn(), "{task.fields[accuracy]} right") as progress:
        task = progress.add_task(
            "Solving", total=total, completed=len(folder.results), accuracy=_accuracy(folder)
        )
        for result in results:
            folder.append(result)
            progress.update(task, advance=1, accuracy=_accuracy(folder))


def _accuracy(folder: EvaluationFolder) -> str:
    results = folder.results
    if not results:
        return "-"
    return f"{sum(bool(result['correct']) for result in results) / len(results):.1%}"
