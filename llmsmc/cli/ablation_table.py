"""An ablation as tables."""

from rich import box
from rich.table import Table

from llmsmc.ablations.figures import Figures
from llmsmc.ablations.intervals import percent_with_error
from llmsmc.ablations.report import Report
from llmsmc.ablations.study import Study
from llmsmc.cli.console import foreign


def cells_table(report: Report) -> Table:
    """Return a table of the cells; the page has all of their figures."""
    titles = ("n", "accuracy", "P(right)", "log\nscore", "ECE", "tokens", "seconds", "errors")
    table = _table(["cell"], list(titles))
    for cell in report["cells"]:
        table.add_row(foreign(cell["label"]), *_cells(cell["figures"]))
    return table


def comparisons_table(report: Report) -> Table:
    """Return a table of the comparisons."""
    table = _table(["claim"], ["difference", "95 % interval", "verdict"])
    for each in report["comparisons"]:
        factor, unit = (1.0, "") if each["metric"] == "log_score" else (100.0, " %")
        shown = ["-", "-", "nothing to compare"]
        if each["difference"] is not None:
            assert each["low"] is not None and each["high"] is not None
            interval = f"{factor * each['low']:+.1f} to {factor * each['high']:+.1f}"
            shown = [f"{factor * each['difference']:+.1f}{unit}", interval, each["verdict"]]
        table.add_row(foreign(each["claim"]), *shown)
    return table


def plan_table(study: Study) -> Table:
    """Return a table of the cells with how much of each is still to be run."""
    table = _table(["cell"], ["runs", "left"])
    size = study.plan.size
    wanted = len(study.examples) * len(size.seeds)
    for row in study.rows():
        table.add_row(foreign(row.label), str(wanted), str(wanted - len(row.runs)))
    return table


def _table(texts: list[str], numbers: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)  # fits into 80 columns
    for title in texts:
        table.add_column(title, min_width=12, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _cells(figures: Figures | None) -> list[str]:
    if figures is None:
        return ["0"]
    error, calibration = figures["standard_error"], figures["calibration_error"]
    return [
        str(figures["num_runs"]),
        percent_with_error(figures["accuracy"], error, figures["num_problems"]),
        _number(figures["probability_correct"], "{:.1f}", 100.0),
        _number(figures["log_score"], "{:.2f}"),
        _number(calibration, "{:.2f}"),
        f"{figures['generated_tokens']:,.0f}",
        f"{figures['seconds']:.2f}",
        str(figures["num_errors"]),
    ]


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(factor * value)
