"""The work of `llmsmc train reward`, after its options have been read."""

import time
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from llmsmc.cli import console
from llmsmc.core.counted import counted
from llmsmc.training import stages
from llmsmc.training.report import Report
from llmsmc.training.stages import RewardTraining


def train(
    training: RewardTraining,
    out: Path,
    *,
    until: str = "report",
    report_only: bool = False,
    reuse: Path | None = None,
) -> None:
    """Run the stages, with a bar for each; print the figures, and where the reward model is.

    Args:
        training: the training.
        out: its folder.
        until: the last stage that is run.
        report_only: whether nothing is trained.
        reuse: the folder of another training, whose stages are taken over.
    """
    screen = console.progress()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=15),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("left{task.fields[remark]}", markup=False),
        console=screen,
        disable=not console.is_animated(screen),
    ) as bars:
        report = stages.run(
            training,
            out,
            until=until,
            report_only=report_only,
            reuse=reuse,
            watch=_Watch(bars),
        )
    shown = console.results()
    if report is None:
        shown.print(console.foreign(f"Done up to the stage {until}: {out}"))
        return
    shown.print(figures_table(report))
    if report_only:
        shown.print(console.foreign(f"Report: {out / 'report.md'}"))
    else:
        shown.print(console.foreign(f"Reward: {out / 'reward'} (--reward {out / 'reward'})"))


def figures_table(report: Report) -> Table:
    """Return the figures of the rewards, a row each."""
    first = next(iter(report["rewards"].values()))
    of = counted(first["questions"], "test question")
    table = Table(title=f"{counted(first['steps'], 'step')} of {of}", title_justify="left")
    table.add_column("reward")
    for name in ("AUROC to error", "all steps", "answer", "log-loss"):
        table.add_column(name, justify="right")
    for name, found in report["rewards"].items():
        keys = ("auroc_until_error", "auroc_all_steps", "auroc_answer_from_last_step")
        values = [found[key]["value"] for key in keys]
        values.append(found.get("log_loss", {}).get("value"))
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        table.add_row(console.foreign(name), *cells)
    return table


class _Watch:
    """Shows a bar for each stage, with the tokens a second since it was taken up."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks = dict[str, TaskID]()
        self._begun = dict[str, float]()

    def __call__(self, now: stages.Progress) -> None:
        if now.stage not in self._tasks:
            self._begun[now.stage] = time.perf_counter()
            self._tasks[now.stage] = self._bars.add_task(
                now.stage, total=now.total, completed=now.done, unit=now.unit, remark=""
            )
        remark = f", {now.remark}" if now.remark else ""
        if now.tokens:
            seconds = time.perf_counter() - self._begun[now.stage]
            remark += f", {now.tokens / seconds:.0f} tokens/s"
        self._bars.update(
            self._tasks[now.stage], completed=now.done, total=now.total, remark=remark
        )
