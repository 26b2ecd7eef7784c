"""`llmsmc show DIR [QUESTION]`: the questions of an evaluation, and what was written to each."""

from pathlib import Path
from typing import Annotated

import typer

from llmsmc.cli import options
from llmsmc.cli.errors import reported
from llmsmc.core.checks import require_choice

ONLY = ("all", "right", "wrong", "no-answer", "failed")


@options.taking(
    options.option(
        None, "only", "WHICH", f"Which questions are listed: {', '.join(ONLY)}.", str, "all"
    ),
    options.option(
        None,
        "all_solutions",
        None,
        "All solutions that were kept, not the selected one.",
        bool,
        False,
    ),
    options.DEBUG,
)
def show(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of an evaluation.", show_default=False)
    ],
    question: Annotated[
        str | None,
        typer.Argument(
            help="The id of a question, or its end, as in 17 for gsm8k/17; without one, questions "
            "are listed.",
            show_default=False,
        ),
    ] = None,
    *,
    only: str,
    all_solutions: bool,
    debug: bool,
) -> None:
    """Show the questions of an evaluation, or the solution of one of them."""
    with reported(debug):
        require_choice("only", only, ONLY)
        from llmsmc.cli import show_run

        if question is None:
            show_run.show_questions(folder, only)
        else:
            show_run.show_solutions(folder, question, all_solutions=all_solutions)
