"""The summary of a posterior that a notebook shows: one piece of HTML.

The summary takes its colours from the page, so that it is readable on light and dark pages. It has
no script and fetches nothing. Text of a model or a user goes through `foreign`.
"""

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from torch import Tensor

from llmsmc.core.particles import named_populations
from llmsmc.results import summary
from llmsmc.results.estimates import NO_ANSWER, Guarantee, WeightedParticles
from llmsmc.storage.characters import one_line, printable

MAX_ANSWERS: Final = 8
MAX_COMPONENTS: Final = 12
_MAX_LETTERS: Final = 60

PROMISES: Final[dict[Guarantee, str]] = {
    "unbiased evidence": "the evidence is unbiased, the particles are properly weighted",
    "properly weighted": "the particles are properly weighted",
    "invariant": "every update leaves the target as it is",
    "consistent": "right in the limit of many particles",
    "heuristic": "a heuristic, which promises nothing",
}
"""The guarantees in words."""

_STYLE: Final = """
.llmsmc {font: 13px/1.45 system-ui, sans-serif; color: inherit; max-width: 46em}
.llmsmc header {margin: 0 0 .5em}
.llmsmc header span, .llmsmc dt, .llmsmc small, .llmsmc th {opacity: .68}
.llmsmc .top {display: flex; flex-wrap: wrap; gap: .7em 3em; align-items: flex-start}
.llmsmc dl {display: grid; grid-template-columns: auto auto; gap: .1em 1.2em; margin: 0}
.llmsmc dt {font-weight: normal}
.llmsmc dd {margin: 0; text-align: right; font-variant-numeric: tabular-nums}
.llmsmc figure {margin: .3em 0 0}
.llmsmc figcaption {font-size: 12px; opacity: .68; max-width: 240px}
.llmsmc svg {display: block; overflow: visible}
.llmsmc table {border-collapse: collapse; margin: .8em 0 0; font-size: inherit; color: inherit}
.llmsmc tr, .llmsmc th, .llmsmc td {background: none; border: 0}
.llmsmc th, .llmsmc td {padding: .15em 1.2em .15em 0; text-align: right}
.llmsmc th {font-weight: normal; border-bottom: 1px solid rgba(128, 128, 128, .5)}
.llmsmc th:first-child, .llmsmc td:first-child {text-align: left; overflow-wrap: anywhere}
.llmsmc td {font-variant-numeric: tabular-nums}
.llmsmc .bar {width: 11em; padding-right: 0}
.llmsmc .bar div {height: .8em; background: rgba(128, 128, 128, .22)}
.llmsmc .bar div div {background: #2f8fd0}
.llmsmc ul {margin: .8em 0 0; padding: 0 0 0 1.2em}
.llmsmc li::marker {content: "! "; color: #e07020; font-weight: bold}
"""


def html_summary(posterior: WeightedParticles) -> str:
    """Return the posterior as HTML: settings, estimates and warnings."""
    if summary.is_dead(posterior):
        body = "<p>All particles have weight zero.</p>"
    elif hasattr(posterior.particles, "answers"):
        body = _answers(posterior)
    else:
        body = _components(posterior)
    return (
        f'<div class="llmsmc"><style>{_STYLE}</style>'
        f"<header><b>{foreign(posterior.algorithm)}</b> "
        f"<span>{_promise(posterior)}</span></header>"
        f'<div class="top">{_facts(posterior)}{_path(posterior)}</div>'
        f"{body}{_warnings(posterior)}</div>"
    )


def foreign(text: str) -> str:
    """Return the text of a model or a user on one line: visible, shortened and escaped."""
    return html.escape(one_line(text, _MAX_LETTERS))


def _promise(posterior: WeightedParticles) -> str:
    return html.escape(PROMISES.get(posterior.guarantee, "a promise that is not known here"))


def _facts(posterior: WeightedParticles) -> str:
    cost, error = posterior.cost, summary.log_evidence_error(posterior)
    known = posterior.log_evidence
    evidence = "none" if known is None else _number(known)
    evidence += "" if error is None else f" ± {error:.3f}"
    size = f"{posterior.effective_sample_size:,.1f} of {posterior.num_particles:,}"
    rows = [
        ("particles", f"{posterior.num_particles:,}"),
        ("steps", f"{len(posterior.history):,}"),
        ("log-evidence", evidence),
        ("effective sample size", size),
        ("truncated", f"{summary.num_truncated(posterior):,}"),
    ]
    above = posterior.metadata.get("log_evidence_above")
    if above is not None:
        rows.insert(3, ("from above", _number(above)))
    rate = summary.acceptance_rate(posterior)
    if rate is not None:
        rows.append(("moves accepted", f"{rate:.0%}"))
    if cost.model_calls:
        tokens = f"{cost.generated_tokens:,} + {cost.scored_tokens:,}"
        rows += [("tokens generated + scored", tokens), ("model calls", f"{cost.model_calls:,}")]
    rows += [("seconds", f"{cost.seconds:.2f}"), ("seed", str(posterior.seed))]
    items = "".join(f"<dt>{name}</dt><dd>{foreign(value)}</dd>" for name, value in rows)
    return f"<dl>{items}</dl>"


def _path(posterior: WeightedParticles) -> str:
    """Return the effective sample size of the steps as a small picture."""
    width, height, margin = 240.0, 64.0, 5.0
    history, count = posterior.history, posterior.num_particles
    gap = (width - 2 * margin) / max(len(history) - 1, 1)
    across = [margin + gap * k for k in range(len(history))]
    if len(history) == 1:
        across = [width / 2]
    points = [
        (x, height * (1 - min(record.effective_sample_size / count, 1.0)))
        for x, record in zip(across, history, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = (
        "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="#2f8fd0"/>' for x, y in points)
        if len(points) <= 40
        else ""
    )
    marks = "".join(
        f'<path d="M{x:.1f} {height + 2:.0f}l3 5h-6z" fill="#e07020"/>'
        for x, record in zip(across, history, strict=True)
        if record.resampled
    )
    resampled = '; <span style="color: #e07020">▲</span> resampled' * bool(marks)
    return (
        f'<figure><svg width="{width:.0f}" height="{height + 8:.0f}" role="img" '
        f'viewBox="0 0 {width:.0f} {height + 8:.0f}"><title>Effective sample size by step</title>'
        f'<path d="M0 0h{width:.0f}" stroke="currentColor" stroke-opacity=".45" '
        'stroke-dasharray="4 3"/>'
        f'<path d="M0 {height:.0f}h{width:.0f}" stroke="currentColor" stroke-opacity=".45"/>'
        f'<polyline points="{line}" fill="none" stroke="#2f8fd0" stroke-width="1.6"/>'
        f"{dots}{marks}</svg><figcaption>effective sample size by step, 0 to {count:,}"
        f"{resampled}</figcaption></figure>"
    )


def _answers(posterior: WeightedParticles) -> str:
    estimates = summary.answer_estimates(posterior)
    leading = summary.leading_answer(estimates)
    rows = []
    for each in estimates[:MAX_ANSWERS]:
        error = "" if each.standard_error is None else f"± {_percent(each.standard_error)}"
        answer = foreign(each.answer)
        if each.answer == leading:
            answer = f"<b>{answer}</b>"
        elif each.answer == NO_ANSWER:
            answer = f"<small>{answer}</small>"
        rows.append((answer, _percent(each.probability), error, _bar(each.probability)))
    others = estimates[MAX_ANSWERS:]
    if others:
        total = math.fsum(each.probability for each in others)
        name = f"<small>{len(others)} more</small>"
        rows.append((name, _percent(total), "", _bar(total)))
    return _table(("answer", "probability", "std. error", ""), rows)


def _components(posterior: WeightedParticles) -> str:
    """Return the mean and the standard deviation of each number of the state."""
    found = list(_columns(posterior.particles, MAX_COMPONENTS + 1))
    rows = []
    for name, column in found[:MAX_COMPONENTS]:
        mean = _mean(posterior, column)
        variance = _mean(posterior, (column.double() - mean).square())
        rows.append((foreign(name), _number(mean), _number(math.sqrt(variance))))
    if not rows:
        return f"<p>{posterior.num_particles:,} × {foreign(type(posterior.particles).__name__)}</p>"
    more = "<small>and more components</small>" if len(found) > MAX_COMPONENTS else ""
    return _table(("state", "mean", "sd"), rows) + more


def _mean(posterior: WeightedParticles, values: Tensor) -> float:
    return float(posterior.mean(lambda particles: values))


def _columns(particles: Any, limit: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the first components of the states, by name, each of N numbers."""
    for name, tensor in named_populations(particles):
        if not isinstance(tensor, Tensor) or tensor.is_complex():
            continue
        rows = tensor.detach().cpu().reshape(len(tensor), -1)
        for k in range(min(rows.shape[1], limit)):
            place = _place(k, tensor.shape[1:])
            yield (f"{name}[{place}]" if place else name), rows[:, k]
            limit -= 1
        if limit <= 0:
            return


def _place(index: int, shape: Sequence[int]) -> str:
    """Return the indices of the component with this number."""
    places: list[str] = []
    for size in reversed(shape):
        places.insert(0, str(index % size))
        index //= size
    return ", ".join(places)


def _warnings(posterior: WeightedParticles) -> str:
    found = summary.warnings(posterior)
    items = "".join(f"<li>{html.escape(printable(text))}</li>" for text in found)
    return f"<ul>{items}</ul>" if found else ""


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are already HTML; the last column may hold bars."""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(content: str) -> str:
    kind = ' class="bar"' if content.startswith("<div") else ""
    return f"<td{kind}>{content}</td>"


def _bar(share: float) -> str:
    return f'<div><div style="width: {100 * min(share, 1.0):.1f}%"></div></div>'


def _percent(probability: float) -> str:
    return html.escape(summary.percent(probability))


def _number(value: float) -> str:
    """Return a number with a proper minus sign."""
    digits = f"{value:.4g}" if 0 < abs(value) < 0.1 or abs(value) >= 1e6 else f"{value:,.3f}"
    return digits.replace("-", "\N{MINUS SIGN}")
