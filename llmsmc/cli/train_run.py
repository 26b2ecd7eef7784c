"""The work of `llmsmc train minimath`, after its options have been read."""

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llmsmc.cli import console
from llmsmc.errors import InputError
from llmsmc.models.minimath.training import recipe


def train(
    folder: Path,
    *,
    seed: int = 0,
    only: list[str] | None = None,
    device: str | None = None,
    brief: bool = False,
) -> None:
    """Train the stages, with a bar for each.

    Args:
        folder: one folder a stage, and the finished models.
        seed: of weights and problems.
        only: the stages to train; all of them by default.
        device: where.
        brief: only a few updates a stage.

    Raises:
        InputError: there is no such stage, or the stage that it starts from is missing.
    """
    screen = console.progress()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left, loss {task.fields[loss]:.4f}"),
        console=screen,
        disable=not console.is_animated(screen),
    ) as bars:
        try:
            _follow(bars, folder, seed, only, device, brief)
        except (OSError, ValueError) as error:
            raise InputError(f"The training cannot go on: {error}") from error
    console.results().print(console.foreign(f"Models: {folder / 'models'}"))


def _follow(
    bars: Progress,
    folder: Path,
    seed: int,
    only: list[str] | None,
    device: str | None,
    brief: bool,
) -> None:
    """Run the training; each stage has a bar from its first report on."""
    tasks = {}
    stages = recipe.run(
        folder,
        recipe=recipe.brief() if brief else None,
        seed=seed,
        only=only or recipe.STAGES,
        device=device,
    )
    for report in stages:
        progress = report.progress
        if report.stage not in tasks:
            tasks[report.stage] = bars.add_task(
                report.stage, total=progress.num_updates, loss=progress.loss
            )
        bars.update(
            tasks[report.stage],
            completed=progress.update,
            total=progress.num_updates,
            loss=progress.loss,
        )
