"""Errors as users of the command line see them: one line, and an exit code.

| exit code | what happened |
| --- | --- |
| 1 | the run could not be completed |
| 2 | something that was given cannot be used |
| 130 | interrupted from the keyboard |
"""

import contextlib
import sys
import textwrap
import traceback
from collections.abc import Iterator
from typing import Any, Final

import typer
import typer.core

from llmsmc.cli import console
from llmsmc.errors import InputError, LlmsmcError
from llmsmc.storage.characters import printable

FAILURE: Final = 1
MISUSE: Final = 2
INTERRUPTED: Final = 130

RENAMED: Final = {
    ("eval", "--dataset"): "DATASET, without a name",
    ("eval", "--questions"): "--range FIRST:LAST",
    ("inspect", "--questions"): "--dataset DATASET",
    ("reward", "--questions"): "--dataset DATASET",
    ("reward", "--first"): "--range FIRST:LAST",
    ("reward", "--last"): "--range FIRST:LAST",
}
"""Name of a command and an option that it has not -> the option that is meant."""

_UsageError: Final = typer.BadParameter.__mro__[1]  # not public under a name of its own


class LineErrors(typer.core.TyperGroup):
    """A group of commands with one-line usage errors; a call without a command shows the help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        return super().parse_args(ctx, args or ["--help"])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; leaves by `SystemExit` unless `standalone_mode` is false."""
        alone = extra.get("standalone_mode", True)
        extra["standalone_mode"] = False
        if not alone:
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **extra)
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        except Exception as error:
            if not isinstance(error, _UsageError):
                raise
            print_error(_renamed(error) or error.format_message())  # type: ignore[attr-defined]
            sys.exit(MISUSE)
        sys.exit(code if isinstance(code, int) else 0)


def _renamed(error: Any) -> str | None:
    """Return the message for an option that has another name."""
    given = getattr(error, "option_name", "")
    meant = RENAMED.get((getattr(error.ctx, "info_name", ""), given))
    return meant and f"There is no option of that name. Got {given}; accepted: {meant}."


@contextlib.contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Report the errors of the library on one line, and leave with the exit code of their kind."""
    try:
        yield
    except LlmsmcError as error:
        if debug:
            traceback.print_exc()
        print_error(str(error))
        raise typer.Exit(MISUSE if isinstance(error, InputError) else FAILURE) from error


def print_error(message: str) -> None:
    """Print the error, with nothing in it that a terminal could act upon.

    It is one line, which is broken between words where somebody reads it on a terminal.
    """
    text = f"llmsmc: error: {printable(' '.join(message.split()))}"
    screen = console.progress()
    if screen.is_terminal:  # words that are longer than a line, such as paths, stay in one piece
        text = textwrap.fill(text, screen.width, break_long_words=False, break_on_hyphens=False)
    typer.echo(text, err=True)
