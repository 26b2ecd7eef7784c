"""A bar that shows how far something is."""

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from llmsmc.cli import console


def progress_bar(done: ProgressColumn, remark: str) -> Progress:
    """Return a bar with the time that is left; without a terminal there is nothing to be seen.

    Args:
        done: the column behind the bar, which shows how much is done.
        remark: the text behind the time, with fields of the task in braces.
    """
    screen = console.progress()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        done,
        TimeRemainingColumn(),
        TextColumn(f"left, {remark}", markup=False),  # it may be text of others
        console=screen,
        transient=True,
        disable=not console.is_animated(screen),
    )
