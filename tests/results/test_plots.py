"""Plots: what they show, that they leave pyplot alone, and that model text stays text."""

import io
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmsmc import InputError, Posterior
from llmsmc.core.cost import Cost
from llmsmc.core.history import StepRecord
from llmsmc.core.weights import as_log_weights
from llmsmc.errors import MissingExtraError
from llmsmc.inference import BootstrapFilter
from llmsmc.results.plots import plain
from tests import solutions
from tests.solutions import answering
from tests.toys import WALK_OBSERVATIONS, walk

matplotlib: Any = pytest.importorskip("matplotlib")
figure: Any = pytest.importorskip("matplotlib.figure")
pyplot: Any = pytest.importorskip("matplotlib.pyplot")

PLOTS = ("plot_ess", "plot_evidence", "plot_genealogy", "plot_answers")


@pytest.fixture(autouse=True)
def agg() -> Iterator[None]:
    with matplotlib.rc_context():
        pyplot.switch_backend("agg")
        yield
        pyplot.close("all")


@pytest.fixture
def filtered() -> Posterior:
    return BootstrapFilter(30).run(walk(), WALK_OBSERVATIONS, seed=0)


@pytest.fixture
def text() -> Posterior:
    ancestors = [[0, 1, 2, 3], [0, 0, 2, 3]]
    return solutions.posterior(answering("7", "8", "7", None), [1, 2, 2, 0], ancestors=ancestors)


def synthetic(num_particles: int, num_steps: int) -> Posterior:
    generator = torch.Generator().manual_seed(0)
    log_weights = as_log_weights(torch.randn(num_particles, generator=generator).tolist())
    history = tuple(
        StepRecord(
            step,
            num_particles / 2,
            -float(step),
            torch.randint(num_particles, (num_particles,), generator=generator).sort().values,
            step > 0,
            0,
            None,
            0.5,
        )
        for step in range(num_steps)
    )
    return Posterior(
        algorithm="Test",
        guarantee="heuristic",
        seed=0,
        particles=torch.zeros(num_particles),
        log_weights=log_weights,
        log_evidence=0.0,
        history=history,
        cost=Cost(),
        truncated=torch.zeros(num_particles, dtype=torch.bool),
    )


def drawn(axes: Any) -> bytes:
    stream = io.BytesIO()
    axes.figure.savefig(stream, format="png")
    return stream.getvalue()


@pytest.mark.parametrize("name", PLOTS)
def test_given_axes_are_used_and_pyplot_is_not(text: Posterior, name: str) -> None:
    axes = figure.Figure(layout="constrained").subplots()
    assert getattr(text, name)(axes) is axes
    assert getattr(text, name)(ax=axes) is axes
    assert drawn(axes).startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("name", PLOTS)
def test_axes_are_made_and_labelled(text: Posterior, name: str) -> None:
    axes = getattr(text, name)()
    assert len(pyplot.get_fignums()) == 1
    assert axes.get_xlabel() and axes.get_ylabel()
    assert "\nBootstrapFilter, 4 particles" in axes.get_title("left")
    drawn(axes)


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("weights", [[1], [0, 1], [0, 0]])
def test_small_and_dead_populations(name: str, weights: list[float]) -> None:
    found = solutions.posterior(answering(*"78"[: len(weights)]), weights)
    drawn(getattr(found, name)())


def test_the_sizes_and_the_steps_that_resampled(filtered: Posterior) -> None:
    axes: Any = filtered.plot_ess()
    lines = {line.get_label(): line for line in axes.get_lines()}
    sizes = [record.effective_sample_size for record in filtered.history]
    assert lines["effective sample size"].get_ydata() == pytest.approx(sizes)
    steps = [record.step for record in filtered.history if record.resampled]
    assert 0 < len(steps) < len(sizes)
    assert list(lines["resampled"].get_xdata()) == steps
    assert "finished particles" not in lines


def test_finished_particles(text: Posterior) -> None:
    axes: Any = text.plot_ess()
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["finished particles"].get_ydata()) == [4, 4]


def test_the_evidence_with_its_error(filtered: Posterior) -> None:
    axes: Any = filtered.plot_evidence()
    error = math.sqrt(filtered.log_evidence_variance)
    (bars,) = axes.containers
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[1, 1] - segment[0, 1] == pytest.approx(2 * error)
    assert f"± {error:.3f}" in axes.get_title("left")
    unknown: Any = replace(filtered, guarantee="consistent").plot_evidence()
    assert len(unknown.containers) == 0


def test_the_side_from_above(filtered: Posterior) -> None:
    axes: Any = replace(filtered, metadata={"log_evidence_above": -1.5}).plot_evidence()
    heights = [line.get_ydata() for line in axes.get_lines() if "above" in line.get_label()]
    assert list(heights[0]) == [-1.5, -1.5]


def test_branches_lead_from_parents_to_children(text: Posterior) -> None:
    axes: Any = text.plot_genealogy()
    dead, alive, bars = axes.collections
    assert len(dead.get_segments()) == 0
    # Particles 0 and 1 are sons of 0; particle 1 of step 0 has none, and stays in its place.
    thirds = [[0, 0], [0, 1], [2, 2], [3, 3]]
    assert [segment[:, 1].tolist() for segment in alive.get_segments()] == [
        pytest.approx([parent / 3, child / 3]) for parent, child in thirds
    ]
    lengths = [segment[1, 0] - segment[0, 0] for segment in bars.get_segments()]
    assert np.array(lengths) / max(lengths) == pytest.approx([0.5, 1.0, 1.0])
    assert "from 3 particles of step 0" in axes.get_title("left")


def test_survivors_and_others_are_all_branches() -> None:
    found = synthetic(50, 10)
    axes: Any = found.plot_genealogy()
    dead, alive, _ = axes.collections
    assert len(dead.get_segments()) + len(alive.get_segments()) == 50 * 9
    assert len(dead.get_segments()) > 100


def test_a_large_genealogy_is_quick() -> None:
    found = synthetic(1000, 100)
    axes = figure.Figure().subplots()
    start = time.process_time()
    found.plot_genealogy(axes)
    drawn(axes)
    assert time.process_time() - start < 5.0
    assert len(axes.collections) == 3 and len(axes.get_children()) < 50


def test_bars_are_the_probabilities(text: Posterior) -> None:
    axes: Any = text.plot_answers()
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.6, 0.4])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["7", "8"]
    assert {"60.0%", "40.0%"} <= {note.get_text() for note in axes.texts}


def test_many_answers_are_summed_up() -> None:
    found = solutions.posterior(answering(*"23456789"), [8, 7, 6, 5, 4, 3, 2, 1])
    axes: Any = found.plot_answers(max_answers=3)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "3", "4", "5 more"]
    assert [bar.get_width() for bar in axes.patches][-1] == pytest.approx(15 / 36)
    with pytest.raises(InputError, match="max_answers"):
        found.plot_answers(max_answers=0)


def test_only_text_has_answers(filtered: Posterior) -> None:
    with pytest.raises(InputError, match="Only models of text have answers"):
        filtered.plot_answers()
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("answer", ["$x^2$", r"$\frac", r"\$5", r"a\$b$", "$" * 5, "\x00\n$$"])
def test_model_text_is_no_formula(answer: str) -> None:
    axes: Any = solutions.posterior([["a"]], [1]).plot_answers()
    axes.set_yticks([0], [plain(answer)])
    drawn(axes)


@given(st.text(max_size=60))
def test_labels_are_short_and_hold_no_formula(text: str) -> None:
    label = plain(text)
    assert "\n" not in label and len(label.replace(r"\$", "$")) <= 28
    assert label.replace(r"\$", "").count("$") == 0


@pytest.mark.parametrize("name", PLOTS)
def test_the_extra_is_named(text: Posterior, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llmsmc\[plot\]'"):
        getattr(text, name)()
