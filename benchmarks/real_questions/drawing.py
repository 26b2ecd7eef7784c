"""The plot of the page: accuracy against N, a panel for each reward of a filter."""

from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

from benchmarks.real_questions.outcomes import (
    BEST,
    COVERAGE,
    DVTS,
    FILTER,
    GREEDY,
    MAJORITY,
    WEIGHTED,
)
from benchmarks.real_questions.plan import REWARDS

_PANEL: Final = (3.4, 3.4)  # inches
_MARKERS: Final = "os^DvPX"
_APART: Final = 0.03  # of a doubling, so that intervals at one N can be told apart

Method = Mapping[str, Any]


def save(methods: Sequence[Method], path: Path) -> None:
    """Draw all methods into a file; the same figures give the same file."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with as_file(files("llmsmc.ablations") / "ablations.mplstyle") as sheet, style.context(sheet):
        rewards = [r for r in REWARDS if any(_is(m, FILTER, r) for m in methods) and r != "answer"]
        panels: Sequence[str | None] = rewards or [None]
        figure = Figure(figsize=(_PANEL[0] * max(len(panels), 2), _PANEL[1]))
        row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, reward in zip(row, panels, strict=True):
            _draw(axes, methods, reward)
        row[0].set_ylabel("accuracy")
        entries = dict[str, Any]()
        for axes in row:
            handles, names = axes.get_legend_handles_labels()
            entries |= dict(zip(names, handles, strict=True))
        figure.legend(entries.values(), entries.keys(), loc="outside right upper")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def _draw(axes: Any, methods: Sequence[Method], reward: str | None) -> None:
    lines = [(FILTER, reward), (DVTS, reward), (WEIGHTED, reward), (BEST, reward)]
    lines += [(MAJORITY, None), (COVERAGE, None), (FILTER, "answer")]
    sizes = set[int]()
    for place, (method, of) in enumerate(lines):
        found = sorted((m for m in methods if _is(m, method, of)), key=lambda m: int(m["size"]))
        if not found:
            continue
        sizes.update(m["size"] for m in found)
        axes.errorbar(
            [m["size"] * 2 ** (_APART * (place - 3)) for m in found],
            [m["accuracy"] for m in found],
            yerr=[
                [m["accuracy"] - m["low"] for m in found],
                [m["high"] - m["accuracy"] for m in found],
            ],
            color=f"C{place}",
            marker=_MARKERS[place],
            label=f"{method} (right answer as reward)" if of == "answer" else method,
        )
    for m in methods:
        if m["method"] == GREEDY and m["quantization"] == "none":
            style = ":" if m["is_larger"] else "--"
            name = "greedy, 1.5B" if m["is_larger"] else "greedy"
            axes.axhline(m["accuracy"], color="0.5", linestyle=style, linewidth=1, label=name)
    axes.set_title("no reward" if reward is None else REWARDS[reward].label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
    axes.set_xlabel("N")
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:.0%}")


def _is(m: Method, method: str, reward: str | None) -> bool:
    return m["method"] == method and m["reward"] == reward and not m["is_larger"]
