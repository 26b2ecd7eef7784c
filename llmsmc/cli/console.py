"""The two streams of a terminal: one for results, one for progress and errors."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.text import Text

from llmsmc.storage.characters import printable

TAB: Final = 4  # columns
_UNBROKEN: Final = 1000  # columns of what nobody is watching, from which nothing is left out


def results() -> Console:
    """Return the console of the standard output."""
    return _console(to_errors=False)


def progress() -> Console:
    """Return the console of the standard error, for progress that disappears at the end."""
    return _console(to_errors=True)


def is_animated(console: Console) -> bool:
    """Return whether somebody is watching, on a terminal that can be redrawn."""
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that a command is working, if somebody is watching; and what the library says of it."""
    console = progress()
    with _said_on(console):
        if not is_animated(console):
            yield
            return
        with console.status(Text(printable(what), style="dim")):
            yield


@contextlib.contextmanager
def _said_on(console: Console) -> Iterator[None]:
    """Print what the library logs of the models that it loads."""
    logger, handler = logging.getLogger("llmsmc.models.pretrained"), _Printer(console)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Printer(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(foreign(record.getMessage(), "dim"))


def foreign(text: str, style: str = "") -> Text:
    """Return text that others wrote, without markup and without control characters.

    Tabs become the spaces that they stand for, which a column of a table can be made wide enough
    for.
    """
    return Text(printable(text).expandtabs(TAB), style=style)


def _console(to_errors: bool) -> Console:
    stream = sys.stderr if to_errors else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # an old terminal may lack a letter
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBROKEN
    return console
