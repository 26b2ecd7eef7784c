"""`llmsmc solve QUESTION`: the posterior of the answer to one question."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from llmsmc.cli import console, options
from llmsmc.cli.chosen_settings import chosen
from llmsmc.cli.errors import reported
from llmsmc.errors import InputError
from llmsmc.storage.json_files import check_writable

MAX_QUESTION: Final = 1_000_000  # characters


@options.taking(
    options.option(
        None,
        "sample_problem",
        "LEVEL",
        "Draw a MiniMath problem of level 1 to 5 by the seed instead, and check the solution at "
        "the end.",
        int,
    ),
    options.option(None, "out", "FILE", "Write the whole run to a JSON file.", Path),
    options.ALGORITHM,
    options.PARTICLES,
    options.SEED,
    *options.OF_MODELS,
    *options.OF_REASONING,
    options.DEBUG,
)
def solve(
    question: Annotated[
        str | None, typer.Argument(help="The question; - reads it from the standard input.")
    ] = None,
    *,
    sample_problem: int | None,
    out: Path | None,
    seed: int,
    debug: bool,
    **given: Any,
) -> None:
    """Solve one question: its answers with their probabilities, and the best solution."""
    with reported(debug):
        text = read_question(question, sample_problem)
        if out is not None:
            check_writable(out)
        with console.waiting("Starting"):
            algorithm, settings = chosen(given, debug)

            from llmsmc.cli import solve_run
            from llmsmc.evaluation.datasets import sample_problem as draw

        problem = None if sample_problem is None else draw(sample_problem, seed)
        text = text if problem is None else problem.question
        solve_run.solve(solve_run.Run(text, algorithm, settings, seed, problem), out)


def read_question(question: str | None, sample_problem: int | None) -> str:
    """Return the question, read from where it is; empty where it is still to be drawn.

    Raises:
        InputError: there is no question, or none that can be asked.
    """
    if (question is None) == (sample_problem is None):
        raise InputError(
            f"There is one question. Got {'none' if question is None else 'two'}; accepted: "
            "QUESTION, - for the standard input, or --sample-problem LEVEL."
        )
    if question is None:
        return ""
    try:
        if question == "-":
            question = sys.stdin.read(MAX_QUESTION + 1)
        question.encode()  # bytes that are no text come as halves of characters
    except UnicodeError as error:
        raise InputError(f"The question is no text. Got {error}; accepted: UTF-8.") from error
    if not question.strip():
        raise InputError(f"The question is empty. Got {question[:20]!r}; accepted: a text.")
    if len(question) > MAX_QUESTION:
        raise InputError(
            f"The question is too long. Got more than {MAX_QUESTION} characters; accepted: what "
            "fits into the context of the policy."
        )
    return question.strip()
