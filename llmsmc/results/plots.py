"""Plots of a run with Matplotlib; each function draws into one pair of axes and shows nothing.

Without `ax`, `pyplot` makes a new figure, which notebooks display; with `ax`, `pyplot` is not
touched. Legends are below the axes, so a figure with several plots needs `layout="constrained"`.
Steps are counted from 0, as in the history. The colours are the palette of Okabe and Ito, which
colour-blind readers can distinguish. Text of a model is never rendered as a formula.
"""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from llmsmc.core.checks import require_count
from llmsmc.core.counted import agreeing, counted
from llmsmc.core.extras import optional
from llmsmc.core.genealogy import lineages
from llmsmc.errors import InputError
from llmsmc.results import summary
from llmsmc.results.estimates import NO_ANSWER, WeightedParticles
from llmsmc.storage.characters import one_line

if TYPE_CHECKING:
    import matplotlib.axes

BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREEN: Final = "#009E73"
GREY: Final = "#8C8C8C"

_MAX_DEAD_BRANCHES: Final = 20_000  # beyond these, branches without descendants are drawn in part
_LABEL_WIDTH: Final = 28


def plot_ess(
    posterior: WeightedParticles, ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """Draw the effective sample size of each step, and how many particles have finished."""
    axes = _axes(ax)
    steps = [record.step for record in posterior.history]
    sizes = [record.effective_sample_size for record in posterior.history]
    finished = [record.num_finished for record in posterior.history]
    count = posterior.num_particles
    axes.axhline(count, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    _note(axes, f"N = {count:,}", float(count))
    axes.plot(
        steps, sizes, color=BLUE, linewidth=1.8, label="effective sample size", **_markers(steps)
    )
    if any(finished):
        axes.plot(
            steps,
            finished,
            color=GREEN,
            linewidth=1.2,
            linestyle=(0, (3, 2)),
            label="finished particles",
            **_markers(steps, "s"),
        )
    axes.set_ylim(0, 1.12 * count)
    _finish(axes, posterior, "Effective sample size", "particles")
    return axes


def plot_evidence(
    posterior: WeightedParticles, ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """Draw the log-evidence of the steps 0 to t for each t, and its standard error where known.

    The error is computed from the genealogy and the final weights, and belongs to the last step.

    Raises:
        InputError: the algorithm estimates no evidence.
    """
    if posterior.log_evidence is None:
        raise InputError(
            f"There is no evidence to be drawn. Got a posterior of {posterior.algorithm}, which "
            "estimates none; accepted: those of filters, for instance."
        )
    axes = _axes(ax)
    steps = [record.step for record in posterior.history]
    path = [record.log_evidence for record in posterior.history]
    path = [value if math.isfinite(value) else math.nan for value in path]
    axes.plot(steps, path, color=BLUE, linewidth=1.8, label="log-evidence", **_markers(steps))
    error = summary.log_evidence_error(posterior)
    if error is not None:
        axes.errorbar(
            steps[-1],
            path[-1],
            yerr=error,
            color=ORANGE,
            linewidth=1.8,
            capsize=6,
            label="± one standard error",
            zorder=1,
        )
    above = posterior.metadata.get("log_evidence_above")
    if above is not None:
        axes.axhline(
            above, color=GREEN, linestyle=(0, (4, 3)), label="from above, by conditional runs"
        )
    value = minus(f"{posterior.log_evidence:.3f}") + ("" if error is None else f" ± {error:.3f}")
    _finish(axes, posterior, f"Log-evidence {value}", "log-evidence, nats")
    return axes


def plot_genealogy(
    posterior: WeightedParticles, ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """Draw the genealogy of the particles: surviving lineages in colour, all others in grey.

    The particles of each step stand in the order of their parents, so that branches of one family
    do not cross. The width of a branch shows the probability of its descendants, and a bar at the
    end shows the probability of each particle.
    """
    axes = _axes(ax)
    history = posterior.history
    ancestors = [record.ancestors for record in history]
    steps = [record.step for record in history]
    weights = _final_weights(posterior)
    heights, shares = _heights(ancestors), _shares(ancestors, weights)
    count = max(len(row) for row in ancestors)
    lines, masses = _branches(steps, ancestors, heights, shares)
    dead, alive = lines[masses < 0], masses >= 0
    dead = dead[:: max(1, math.ceil(len(dead) / _MAX_DEAD_BRANCHES))]
    thin = float(np.clip(60 / count, 0.2, 1.0))
    _draw_lines(axes, dead, color=GREY, linewidths=thin, alpha=0.6, zorder=1)
    thickness = 0.8 * thin + 4.5 * np.sqrt(masses[alive])
    _draw_lines(axes, lines[alive], color=BLUE, linewidths=thickness, alpha=0.85, zorder=2)
    # Bars of the final weights, beside the last step.
    width = 0.12 * max(steps[-1] - steps[0], 1)
    start = np.full(len(weights), steps[-1] + 0.15 * width)
    ends = start + width * weights / weights.max()
    bars = np.stack([np.stack([start, heights[-1]], 1), np.stack([ends, heights[-1]], 1)], 1)
    thickness = float(np.clip(180 / count, 0.4, 6.0))
    _draw_lines(axes, bars[weights > 0], color=ORANGE, linewidths=thickness, zorder=2)
    axes.plot([], [], color=BLUE, label="survives")
    axes.plot([], [], color=GREY, label="dies out")
    axes.plot([], [], color=ORANGE, linewidth=4, label="final weight")
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    roots = int((shares[0] >= 0).sum())
    descent = agreeing(roots, "one particle", f"{roots:,} particles")
    title = f"Genealogy from {descent} of step {steps[0]}"
    _finish(axes, posterior, title, f"particles, {count:,} a step")
    axes.set_xlim(right=float(ends.max()) + 0.2 * width)
    axes.set_xticks([tick for tick in axes.get_xticks() if steps[0] <= tick <= steps[-1]])
    return axes


def plot_answers(
    posterior: WeightedParticles, ax: "matplotlib.axes.Axes | None" = None, *, max_answers: int = 10
) -> "matplotlib.axes.Axes":
    """Draw the probability of each answer, with its standard error; for models of text.

    The most probable `max_answers` answers have bars of their own; all others share one bar.
    """
    require_count("max_answers", max_answers)
    estimates = summary.answer_estimates(posterior)
    axes = _axes(ax)
    shown, others = estimates[:max_answers], estimates[max_answers:]
    labels = [plain(each.answer) for each in shown]
    probabilities = [each.probability for each in shown]
    errors = [each.standard_error or 0.0 for each in shown]
    colors = [GREY if each.answer == NO_ANSWER else BLUE for each in shown]
    if others:
        labels.append(f"{len(others)} more")
        probabilities.append(math.fsum(each.probability for each in others))
        errors.append(0.0)
        colors.append(GREY)
    rows = np.arange(len(labels))
    axes.barh(rows, probabilities, height=0.62, color=colors)
    known = [row for row, error in enumerate(errors) if error > 1e-9]
    if known:
        axes.errorbar(
            [probabilities[row] for row in known],
            known,
            xerr=_within(probabilities, errors, known),
            fmt="none",
            ecolor="black",
            elinewidth=1.2,
            capsize=3,
            label="± one standard error",
        )
    for row, (probability, error) in enumerate(zip(probabilities, errors, strict=True)):
        end = min(probability + error, 1.0)
        axes.annotate(
            summary.percent(probability),
            (end, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    axes.set_yticks(rows, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:.0%}")
    axes.tick_params(axis="y", length=0)
    _clear_frame(axes)
    axes.set_xlabel("probability")
    axes.set_ylabel("answer")
    axes.set_title(_title(posterior, "Answers"), loc="left", fontsize="medium")
    if known:
        _legend(axes)
    return axes


def plain(text: str, width: int = _LABEL_WIDTH) -> str:
    """Return text of a model as a label: one short line, with no part read as a formula."""
    return one_line(text, width).replace("$", r"\$")


def minus(number: str) -> str:
    """Return a formatted number with a proper minus sign."""
    return number.replace("-", "\N{MINUS SIGN}")


def _axes(ax: "matplotlib.axes.Axes | None") -> "matplotlib.axes.Axes":
    if ax is not None:
        return ax
    pyplot = optional("matplotlib.pyplot", extra="plot", purpose="A plot")
    made: matplotlib.axes.Axes = pyplot.subplots(figsize=(7, 4), layout="constrained")[1]
    return made


def _markers(steps: list[int], marker: str = "o") -> dict[str, Any]:
    """Return points where there are few steps."""
    return {"marker": marker, "markersize": 4} if len(steps) <= 40 else {}


def _mark_resampling(axes: Any, posterior: WeightedParticles) -> None:
    """Put a mark on the axis at each step that began with resampling."""
    steps = [record.step for record in posterior.history if record.resampled]
    if steps:
        axes.plot(
            steps,
            np.zeros(len(steps)),
            "^",
            transform=axes.get_xaxis_transform(),
            color=ORANGE,
            markersize=5 if len(steps) <= 40 else 3,
            clip_on=False,
            zorder=4,
            label="resampled",
        )


def _note(axes: Any, text: str, height: float) -> None:
    axes.annotate(
        text,
        (0, height),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize="small",
        color=GREY,
    )


def _finish(axes: Any, posterior: WeightedParticles, title: str, quantity: str) -> None:
    """Give axes over steps their title, labels, ticks and legend."""
    _mark_resampling(axes, posterior)
    steps = [record.step for record in posterior.history]
    extra = max(0.02 * (steps[-1] - steps[0]), 0.15)
    axes.set_xlim(steps[0] - extra, steps[-1] + extra)
    ticker = optional("matplotlib.ticker", extra="plot", purpose="A plot")
    axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
    axes.set_xlabel("step t")
    axes.set_ylabel(quantity)
    axes.set_title(_title(posterior, title), loc="left", fontsize="medium")
    _clear_frame(axes)
    _legend(axes)


def _legend(axes: Any) -> None:
    """Put the legend below the axes, where it covers nothing, in as many columns as have room."""
    transforms = optional("matplotlib.transforms", extra="plot", purpose="A plot")
    handles, labels = axes.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    inches = axes.get_window_extent().width / axes.figure.dpi
    widths = [0.45 + 0.075 * len(label) for label in entries]  # inches, roughly
    columns = len(entries) if sum(widths) <= inches else int(inches / max(widths))
    axes.legend(
        entries.values(),
        entries.keys(),
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=transforms.offset_copy(axes.transAxes, axes.figure, y=-34, units="points"),
        ncols=max(columns, 1),
        frameon=False,
        fontsize="small",
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.4,
    )


def _title(posterior: WeightedParticles, title: str) -> str:
    particles = counted(posterior.num_particles, "particle")
    return f"{title}\n{plain(posterior.algorithm, 60)}, {particles}"


def _clear_frame(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _shares(ancestors: list[Int64[Tensor, " _"]], weights: np.ndarray) -> list[np.ndarray]:
    """Return the final probability of the descendants of each particle; -1 without descendants."""
    shares = []
    for row, roots in zip(ancestors, lineages(ancestors).numpy(), strict=True):
        share = np.bincount(roots, weights, minlength=len(row))
        has_none = np.bincount(roots, minlength=len(row)) == 0
        shares.append(np.where(has_none, -1.0, share))
    return shares


def _heights(ancestors: list[Int64[Tensor, " _"]]) -> list[np.ndarray]:
    """Return where each particle stands, between 0 and 1, in the order of its parents."""
    heights = [_ranks(np.arange(len(ancestors[0])))]
    for row in ancestors[1:]:
        heights.append(_ranks(heights[-1][row.numpy()]))
    return heights


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks / max(len(values) - 1, 1)


def _branches(
    steps: list[int],
    ancestors: list[Int64[Tensor, " _"]],
    heights: list[np.ndarray],
    shares: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lines `[K, 2, 2]` from parents to children, and the shares of the children."""
    lines, found = [np.empty((0, 2, 2))], [np.empty(0)]
    for t in range(1, len(steps)):
        ends = np.stack([heights[t - 1][ancestors[t].numpy()], heights[t]], axis=1)
        times = np.broadcast_to(np.array(steps[t - 1 : t + 1], dtype=float), ends.shape)
        lines.append(np.stack([times, ends], axis=2))
        found.append(shares[t])
    return np.concatenate(lines), np.concatenate(found)


def _draw_lines(axes: Any, lines: np.ndarray, **style: Any) -> None:
    collections = optional("matplotlib.collections", extra="plot", purpose="plot_genealogy")
    axes.add_collection(collections.LineCollection(lines, **style))


def _final_weights(posterior: WeightedParticles) -> np.ndarray:
    """Return the probabilities of the particles; equal ones if all weights are zero."""
    count = posterior.num_particles
    if summary.is_dead(posterior):
        return np.full(count, 1 / count)
    weights: Float64[Tensor, " N"] = posterior.normalized_weights
    return weights.numpy()


def _within(probabilities: list[float], errors: list[float], rows: list[int]) -> np.ndarray:
    """Return the lengths of error bars that stay between 0 and 1."""
    centre = np.array(probabilities)[rows]
    error = np.array(errors)[rows]
    return np.stack([error.clip(max=centre), error.clip(max=(1 - centre).clip(min=0))])
