"""The bar that shows how far something is."""

import io

import pytest
from rich.console import Console
from rich.progress import TextColumn

from llmsmc.cli import console
from llmsmc.cli.progress import progress_bar


@pytest.mark.parametrize(
    "text", ["[/nope]", "[red]x", "[link=javascript:x]y[/link]", "[", ":smile:"]
)
def test_brackets_are_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    screen = Console(file=stream, force_terminal=True, width=120, emoji=False)
    monkeypatch.setattr(console, "progress", lambda: screen)
    with progress_bar(TextColumn("1 of 2"), "{task.fields[cell]}") as progress:
        progress.add_task("Running", total=2, cell=text)
    assert text in stream.getvalue()
