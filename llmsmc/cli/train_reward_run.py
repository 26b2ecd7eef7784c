"""The work of `llmsmc train reward`, after its options have been read."""

import time
from itertools import chain
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from llmsmc.cli import console
from llmsmc.training import stages
from llmsmc.training.stages import RewardTraining


def train(
    training: RewardTraining, out: Path, *, until: str = "report", reuse: Path | None = None
) -> None:
    """Run the stages, with a bar for each, and say where the reward model is.

    Args:
        training: the training.
        out: its folder.
        until: the last stage that is run.
        reuse: the folder of another training, whose stages are taken over.
    """
    screen = console.progress()
    events = stages.run(training, out, until=until, reuse=reuse)
    with console.waiting(f"Loading {training.settings.policy}"):
        first = next(events)
    tasks = dict[str, Any]()
    begun = dict[str, float]()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TimeRemainingColumn(),
        TextColumn("left, {task.fields[remark]}", markup=False),
        console=screen,
        disable=not console.is_animated(screen),
    ) as bars:
        for now in chain([first], events):
            if now.stage not in tasks:
                begun[now.stage] = time.perf_counter()
                tasks[now.stage] = bars.add_task(
                    now.stage, total=now.total, completed=now.done, unit=now.unit, remark=now.remark
                )
            remark = now.remark
            if now.tokens:
                seconds = time.perf_counter() - begun[now.stage]
                remark += f", {now.tokens / seconds:.0f} tokens/s"
            bars.update(tasks[now.stage], completed=now.done, total=now.total, remark=remark)
