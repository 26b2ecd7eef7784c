"""The figure of an ablation, drawn from its report.

Accuracy against the varied setting (or in bars, if it is no number), against the generated tokens,
and how often answers of each probability were right. Bars are standard errors over
problems.
"""

from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmsmc.ablations.figures import MIN_IN_BIN, Figures
from llmsmc.ablations.labels import labels
from llmsmc.ablations.report import Report
from llmsmc.core.extras import optional
from llmsmc.results.plots import GREY, plain

if TYPE_CHECKING:
    import matplotlib.figure

_STYLE: Final = files("llmsmc.ablations") / "ablations.mplstyle"
_DOUBLING: Final = ("particles", "budget")
_PANEL: Final = (3.6, 2.9)  # inches


class Drawn(NamedTuple):
    """A cell that is drawn: one with an accuracy."""

    values: dict[str, Any]
    figures: Figures


Line = tuple[str, list[Drawn]]
"""A label and its cells."""


def draw(report: Report) -> "matplotlib.figure.Figure":
    """Return the figure of a report; where there are facets, with a row for each."""
    optional("matplotlib", extra="plot", purpose="The figure of an ablation")
    from matplotlib import style
    from matplotlib.figure import Figure

    cells = [
        Drawn(cell["values"], figures)
        for cell in report["cells"]
        if (figures := cell["figures"]) is not None and figures["accuracy"] is not None
    ]
    facets = _facets(cells, report["plot"].get("rows"))
    with as_file(_STYLE) as path, style.context(path):
        longest = max((len(_lines(each, report)) for _, each in facets), default=1)
        height = _PANEL[1] + 0.17 * max(longest - 3, 0)
        figure = Figure(figsize=(3 * _PANEL[0], height * max(len(facets), 1)))
        panels = figure.subplots(max(len(facets), 1), 3, squeeze=False)
        for row, (title, each) in zip(panels, facets, strict=False):
            _draw_row(row, title, each, report)
    return figure


def save(report: Report, path: Path) -> None:
    """Write the figure as SVG (or what the suffix says); the same report gives the same file."""
    from matplotlib import style

    figure = draw(report)
    with as_file(_STYLE) as settings, style.context(settings):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def _draw_row(row: Any, title: str, cells: Sequence[Drawn], report: Report) -> None:
    x = report["plot"].get("x")
    lines = _lines(cells, report)
    numeric = x is not None and all(
        isinstance(cell.values.get(x), int | float) for _, each in lines for cell in each
    )
    if numeric:
        _draw_curves(row[0], lines, lambda cell: float(cell.values[str(x)]), str(x))
    else:
        _draw_bars(row[0], lines)
    _draw_curves(row[1], lines, lambda cell: cell.figures["generated_tokens"], "tokens")
    _draw_reliability(row[2], lines)
    row[0].set_title(plain(title, 40) or "Accuracy")
    row[1].set_title("Accuracy by cost")
    row[2].set_title("Calibration of the posterior")
    for axes in row[:2]:
        _percent(axes.yaxis if numeric or axes is row[1] else axes.xaxis)
    if numeric:  # bars have their names beside them, in the same colours
        short = max((len(name) for name, _ in lines), default=0) < 20
        row[0].legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), ncols=2 if short else 1)


def _draw_curves(
    axes: Any, lines: Sequence[Line], place: Callable[[Drawn], float], name: str
) -> None:
    for label, cells in lines:
        ordered = sorted(cells, key=place)
        axes.errorbar(
            [place(cell) for cell in ordered],
            [cell.figures["accuracy"] for cell in ordered],
            yerr=[cell.figures["standard_error"] or 0.0 for cell in ordered],
            label=plain(label, 40),
        )
    places = [place(cell) for _, cells in lines for cell in cells]
    if name == "tokens":
        if max(places) > 4 * min(places) > 0:
            axes.set_xscale("log")
        else:
            axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
        axes.set_xlabel("tokens generated a problem")
    elif name in _DOUBLING:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(set(places)), [f"{value:g}" for value in sorted(set(places))])
        axes.set_xlabel(name)
    else:
        axes.set_xlabel(name.replace("_", " "))
    axes.set_ylabel("accuracy")


def _draw_bars(axes: Any, lines: Sequence[Line]) -> None:
    bars = [(label, cell.figures) for label, cells in lines for cell in cells]
    for number, (_, figures) in enumerate(bars):
        error = figures["standard_error"] or 0.0
        axes.barh(number, figures["accuracy"], xerr=error, color=f"C{number % 8}", height=0.66)
    axes.set_yticks(range(len(bars)), [plain(label, 44) for label, _ in bars])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("accuracy")
    axes.set_xlim(left=0)


def _draw_reliability(axes: Any, lines: Sequence[Line]) -> None:
    """Draw the reliability of the last cell of each line, where there are runs to tell it from."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), marker="")
    for number, (_, cells) in enumerate(lines):
        bins = [each for each in cells[-1].figures["reliability"] if each["count"] >= MIN_IN_BIN]
        axes.plot(
            [each["probability"] for each in bins],
            [each["right"] for each in bins],
            color=f"C{number % 8}",
            marker="os^DvPX*"[number % 8],
            linewidth=1.0,
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("probability of the leading answer")
    axes.set_ylabel("how often it is right")


def _facets(cells: Sequence[Drawn], key: str | None) -> list[Line]:
    if key is None:
        return [("", list(cells))] if cells else []
    found: dict[str, list[Drawn]] = {}
    for cell in cells:
        found.setdefault(str(cell.values.get(key)), []).append(cell)
    return list(found.items())


def _lines(cells: Sequence[Drawn], report: Report) -> list[Line]:
    """Return the cells of each curve: they differ only in the value on the axis."""
    told = (report["plot"].get("x"), report["plot"].get("rows"))
    found: dict[str, list[Drawn]] = {}
    for name, cell in zip(labels([cell.values for cell in cells], told), cells, strict=True):
        found.setdefault(name, []).append(cell)
    return list(found.items())


def _percent(axis: Any) -> None:
    axis.set_major_formatter(lambda value, position: f"{value:.0%}")
