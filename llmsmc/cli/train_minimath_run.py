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
    stages = recipe.run(
        folder,
        recipe=recipe.brief() if brief else None,
        seed=seed,
        only=only or recipe.STAGES,
        device=device,
    )
    tasks = {}
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
            for report in stages:  # a stage has a bar from its first report on
                name, now = report.stage, report.progress
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=now.num_updates, loss=now.loss)
                bars.update(tasks[name], completed=now.update, total=now.num_updates, loss=now.loss)
        except (OSError, ValueError) as error:
            raise InputError(f"The training cannot go on: {error}") from error
    console.results().print(console.foreign(f"Models: {folder / 'models'}"))
