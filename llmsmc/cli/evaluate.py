"""`llmsmc eval DATASET`: how often an algorithm is right on a set of questions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmsmc.cli import console, options
from llmsmc.cli.chosen_settings import chosen
from llmsmc.cli.errors import reported
from llmsmc.errors import InputError


@options.taking(
    options.option(
        None, "dataset_file", "PATH", "A .jsonl file in place of DATASET, by its path alone.", Path
    ),
    options.option(
        None,
        "out",
        "DIR",
        "The folder of the results; an evaluation that lies there is taken up again.",
        Path,
        show_default="runs/DATASET-ALGORITHM-HASH",
    ),
    options.option(
        None, "limit", "N", "Only the first N questions.", int, min=1, show_default="all"
    ),
    options.RANGE,
    options.option(
        None,
        "solutions",
        "WHICH",
        "Which texts are kept of each question: selected, all or none; llmsmc show DIR shows them.",
        str,
        "selected",
    ),
    options.option(
        None,
        "retry_errors",
        None,
        "Try the questions again that failed in an earlier run in the same folder.",
        bool,
        False,
    ),
    options.ALGORITHM,
    options.PARTICLES,
    options.SEED,
    options.IN_FLIGHT,
    options.TOKENS_MEANWHILE,
    options.SELECTION,
    *options.OF_MODELS,
    *options.OF_REASONING,
    options.DEBUG,
)
def evaluate(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help=options.DATASET,
            show_default=False,
        ),
    ] = None,
    *,
    dataset_file: Path | None,
    out: Path | None,
    limit: int | None,
    range: str | None,
    retry_errors: bool,
    solutions: str,
    seed: int,
    in_flight: int,
    tokens_meanwhile: int,
    debug: bool,
    **given: Any,
) -> None:
    """Evaluate an algorithm on a set of questions; can be interrupted and taken up again."""
    with reported(debug):
        with console.waiting("Starting"):
            algorithm, settings = chosen(
                given, debug, has_answers=True, tokens_meanwhile=tokens_meanwhile
            )

            from llmsmc.cli import evaluate_run
            from llmsmc.evaluation.datasets import load, load_file
            from llmsmc.evaluation.evaluating import Job

            if (dataset is None) == (dataset_file is None):
                got = "neither" if dataset is None else f"{dataset!r} and {str(dataset_file)!r}"
                raise InputError(
                    f"One set is evaluated at a time. Got {got}; accepted: DATASET or "
                    "--dataset-file PATH."
                )
            loaded = load(dataset) if dataset is not None else load_file(str(dataset_file))
            asked = loaded.part(range, limit)
        job = Job(
            asked, algorithm, settings, seed, in_flight, tokens_meanwhile, retry_errors, solutions
        )
        evaluate_run.evaluate(job, out)
