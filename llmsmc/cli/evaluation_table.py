"""The figures of an evaluation as a table."""

from typing import Any, Final

from rich import box
from rich.table import Table

from llmsmc.cli.console import foreign
from llmsmc.core.counted import agreeing
from llmsmc.evaluation.runner import wilson_interval
from llmsmc.models.reasoning.no_answer import CAUSES

_MAX_KINDS: Final = 10
_MAX_MESSAGE: Final = 400  # characters


def evaluation_table(figures: dict[str, Any]) -> Table:
    """Return a table of the figures, by level and overall."""
    titles = [
        "n",
        "accuracy",
        "95 %\ninterval",
        "P(right)",
        "tokens",
        "seconds",
        "cut\noff",
        "no\nanswer",
    ]
    titles += ["errors"] * (figures["overall"]["num_errors"] > 0)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("level", overflow="fold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for group in figures["levels"]:
        table.add_row(foreign(str(group["level"])), *_cells(group)[: len(titles)])
    if figures["levels"]:
        table.add_section()
    table.add_row("all", *_cells(figures["overall"])[: len(titles)], style="bold")
    return table


def coverage_table(group: dict[str, Any]) -> Table:
    """Return a table of how often any particle is right, and of pass@k where it is estimated."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    for _ in range(2):
        table.add_column(justify="right")
    rows = [("coverage: any particle is right", group["coverage"])]
    rows += [(f"pass@{each['k']}", each["estimate"]) for each in group["pass_at_k"]]
    for title, share in rows:
        table.add_row(title, _percent(share), _interval(share, group["num_problems"]))
    return table


def no_answer_table(group: dict[str, Any]) -> Table:
    """Return a table of why questions, and why single solutions, have no answer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("no answer")
    table.add_column("questions", justify="right")
    table.add_column("solutions", justify="right")
    for each in group["no_answer"]:
        words = CAUSES.get(each["cause"], each["cause"])
        table.add_row(foreign(words), str(each["questions"]), f"{each['solutions']:,}")
    if len(group["no_answer"]) > 1:
        table.add_section()
    sums = (sum(each[key] for each in group["no_answer"]) for key in ("questions", "solutions"))
    of = (group["num_problems"], group["num_solutions"])
    table.add_row("all", *(f"{n:,} of {count:,}" for n, count in zip(sums, of, strict=True)))
    return table


def errors_table(errors: list[dict[str, Any]]) -> Table:
    """Return a table of errors by kind: how many, the first of them, and of which question."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right")
    table.add_column()
    for kind in errors[:_MAX_KINDS]:
        others = f" and {len(kind['ids']) - 1} more" if len(kind["ids"]) > 1 else ""
        said = kind["message"]
        said = said if len(said) <= _MAX_MESSAGE else f"{said[:_MAX_MESSAGE]}..."
        message = foreign(f"{said} ({kind['ids'][0]}{others})")
        table.add_row(foreign(f"  {kind['count']} x"), message)
    if len(errors) > _MAX_KINDS:
        more_kinds = len(errors) - _MAX_KINDS
        are = agreeing(more_kinds, "kind, which is", "kinds, which are")
        table.add_row("", f"and {more_kinds} more {are} in summary.json")
    return table


def _cells(group: dict[str, Any]) -> list[str]:
    return [
        str(group["num_problems"]),
        _percent(group["accuracy"]),
        _interval(group["accuracy"], group["num_problems"]),
        _percent(group["probability_correct"]),
        f"{group['tokens']:,.0f}",
        f"{group['seconds']:.2f}",
        _percent(group["truncated"]),
        str(group["num_no_answer"]),
        str(group["num_errors"]),
    ]


def _interval(share: float | None, count: int) -> str:
    """Return the 95 % interval of a share of the questions."""
    if share is None:
        return "-"
    low, high = wilson_interval(share, count)
    return f"{100 * low:.1f}-{100 * high:.1f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
