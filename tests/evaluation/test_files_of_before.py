"""Files of older versions are read as they were meant, and those of later ones as far as known.

In `fixtures/before` is what was written before documents named their tensors: posteriors, of a
particle cascade with what its policy had cached; an evaluation; an ablation and its plan.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llmsmc import Posterior
from llmsmc.ablations.figures import is_right
from llmsmc.ablations.page import index_of, read_reports
from llmsmc.errors import InputError
from llmsmc.evaluation.configuration import Configuration
from llmsmc.evaluation.folder import EvaluationFolder, read_results
from llmsmc.evaluation.runner import summarize
from llmsmc.models.reasoning.particles import ReasoningParticles
from llmsmc.storage.serialization import ALIASES, TYPES, encode
from tests.cli.conftest import Command, command  # noqa: F401 - a fixture
from tests.storage.test_hostile_posteriors import RUN, parts, write

BEFORE = Path(__file__).parent.parent / "fixtures" / "before"


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Return a copy of the files, which may be changed."""
    return Path(shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True))


# ------------------------------------------------------------------------------- of older versions


@pytest.mark.parametrize(
    ("name", "evidence", "size", "answers"),
    [
        ("numbers", -4.399661069542242, 2.055958916676783, None),
        ("gibbs", -4.050126534842571, 6.474453152308645, None),
        ("reasoning", -4.162436800365203, 3.020813330503822, {"60": 0.996531, "70": 0.003469}),
        ("cascade", -0.0036778097694114553, 3.6, {"11": 1.0}),
    ],
)
def test_posteriors(name: str, evidence: float, size: float, answers: Any, before: Path) -> None:
    posterior = Posterior.load(before / f"posterior-{name}")
    assert posterior.log_evidence == pytest.approx(evidence, rel=1e-12)
    assert posterior.effective_sample_size == pytest.approx(size, rel=1e-9)
    assert len(posterior.trajectories()) and posterior._repr_html_()
    if answers is None:
        assert posterior.standard_error(lambda x: x) > 0
    else:
        assert posterior.answers() == pytest.approx(answers, abs=1e-6)
        assert posterior.particles.policy_cache is None
        assert torch.equal(posterior.particles.num_transitions, posterior.particles.num_steps)
    posterior.save(before / "again")
    assert repr(Posterior.load(before / "again")) == repr(posterior)


def test_an_evaluation_goes_on(command: Command, before: Path) -> None:  # noqa: F811
    path = before / "evaluation" / "results.jsonl"
    written = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(written[1:]))
    options = ["--out", "evaluation", "--particles", "2", "--max-steps", "6", "--limit", "3"]
    result = command("eval", "minimath-dev", *options)
    assert result.exit_code == 0, result.output
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[:2] == written[1:]
    again, first = json.loads(lines[2]), json.loads(written[0])
    measured = ("seconds", "cost", "log_evidence")
    assert {k: v for k, v in again.items() if k in first and k not in measured} == {
        k: v for k, v in first.items() if k not in measured
    }
    there = json.loads((BEFORE / "evaluation" / "summary.json").read_text())["overall"]
    here = summarize(read_results(path))["overall"]
    assert {k: here[k] for k in there if k != "seconds"} == {
        k: pytest.approx(there[k]) for k in there if k != "seconds"
    }


def within(there: Any, here: Any) -> bool:
    """Whether a report has what an older one has; it may have more."""
    if isinstance(there, dict):
        return all(within(there[key], here[key]) for key in there)
    if isinstance(there, list):
        return len(there) == len(here) and all(map(within, there, here))
    return bool(there == here)


def test_an_ablation_is_taken_up_with_nothing_run_again(
    command: Command,  # noqa: F811
    before: Path,
) -> None:
    result = command("ablate", "plan.toml", "--out", "ablations")
    assert result.exit_code == 0, result.output
    for path in BEFORE.glob("ablations/*/*"):
        assert (before / path.relative_to(BEFORE)).read_bytes() == path.read_bytes()
    there, here = (
        json.loads((folder / "ablations" / "plan.json").read_text()) for folder in (BEFORE, before)
    )
    for key in there.keys() - {"command", "versions"}:
        assert within(there[key], here[key]), key
    shutil.move(before / "ablations" / "plan.json", before / "old.json")
    reports = {"plan": there}
    assert "The product is above min" in index_of(reports)
    (before / "plan.toml").unlink()
    assert index_of(read_reports(before)) == index_of({"old": there})


# ------------------------------------------------------------------------------- of later versions

LATER: dict[str, Callable[[Any], Any]] = {
    "of a posterior": lambda value: value["fields"]["dict"],
    "of a step": lambda value: value["fields"]["dict"]["history"]["tuple"][0]["fields"]["dict"],
    "of a cost": lambda value: value["fields"]["dict"]["cost"]["fields"]["dict"],
    "of particles": lambda value: value["fields"]["dict"]["particles"]["fields"]["dict"],
    "of metadata": lambda value: value["fields"]["dict"]["metadata"]["dict"],
}
MORE = [7, "x", None, {"tuple": []}, {"type": "llmsmc.later:Thing", "fields": {"dict": {}}}]


@pytest.mark.parametrize("more", MORE, ids=str)
@pytest.mark.parametrize("where", LATER)
def test_parts_that_are_not_known(where: str, more: Any, tmp_path: Path) -> None:
    RUN.save(tmp_path)
    folder, tensors = tmp_path, (tmp_path / "tensors.safetensors").read_bytes()
    value, _ = parts(folder)
    LATER[where](value)["color"] = more
    write(folder, value, tensors)
    if where == "of metadata" and isinstance(more, dict) and "type" in more:
        with pytest.raises(InputError, match="a type that is not known here"):
            Posterior.load(folder)  # these are kept, so they have to be known
    else:
        assert repr(Posterior.load(folder)) == repr(RUN)


def test_a_document_with_one_more_key(tmp_path: Path) -> None:
    RUN.save(tmp_path)
    path = tmp_path / "document.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "2.0", "more": [1]}))
    assert Posterior.load(tmp_path).answers() == RUN.answers()


def test_what_is_cached_is_not_saved(tmp_path: Path) -> None:
    """Nor can a file say what is cached."""
    RUN.save(tmp_path)
    value, tensors = parts(tmp_path)
    particles = LATER["of particles"](value)
    assert not any(name.endswith(("_cache", "_memory")) for name in particles)
    particles["policy_cache"] = {"tensor": "0"}
    write(tmp_path, value, (tmp_path / "tensors.safetensors").read_bytes())
    back = Posterior.load(tmp_path).particles
    assert isinstance(back, ReasoningParticles) and back.policy_cache is None


@pytest.mark.parametrize(
    ("lacking", "more"),
    [
        ((), {"color": "red"}),
        (("grading",), {}),
        ((), {"selected": {"mode": True}}),
        ((), {"selected": {}}),
        ((), {"selected": {"mode": True, "a rule of later": False}}),
        (("question", "family", "seed", "log_evidence"), {"tokens": [1, 2]}),
        ((), {"cost": {"generated_tokens": 1, "scored_tokens": 2, "model_calls": 3}}),
        ((), {"level": None, "usage": {"deep": [{}]}}),
    ],
)
def test_results_with_more_or_less(lacking: tuple[str, ...], more: Any, before: Path) -> None:
    path = before / "evaluation" / "results.jsonl"
    lines = path.read_text().splitlines()
    first = {k: v for k, v in json.loads(lines[0]).items() if k not in lacking} | more
    path.write_text("\n".join([json.dumps(first), *lines[1:], ""]))
    config = json.loads((path.parent / "manifest.json").read_text())["config"]
    folder = EvaluationFolder(path.parent, Configuration(config | {"a setting of later": None}))
    assert summarize(folder.results)["overall"]["num_problems"] == 3


def test_a_rule_of_selection_that_results_do_not_have_is_named() -> None:
    result = {"id": "a/1", "correct": True, "selected": {"mode": True, "sample": False}}
    assert is_right(result, "mode") and not is_right(result, "sample")
    with pytest.raises(InputError, match="Got 'argmax' for 'a/1'; accepted: mode, sample"):
        is_right(result, "argmax")


@pytest.mark.parametrize("number", [2, 99, -1, 1.0, "1", True, None])
def test_a_format_of_later_is_named(number: Any, before: Path, tmp_path: Path) -> None:
    RUN.save(tmp_path / "run")
    path = tmp_path / "run" / "document.json"
    document = json.loads(path.read_text())
    assert document["format"] == 1
    path.write_text(json.dumps(document | {"format": number}))
    with pytest.raises(InputError, match="it has the format .* a later version of llmsmc reads it"):
        Posterior.load(tmp_path / "run")
    manifest = before / "evaluation" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": number}))
    with pytest.raises(InputError, match="it has the format .* a later version of llmsmc reads it"):
        EvaluationFolder(manifest.parent, Configuration({}))


def test_types_have_tags_that_do_not_say_where_they_are_defined() -> None:
    document, _ = encode(RUN)
    assert "llmsmc" not in json.dumps(document["fields"]["dict"]["history"])
    assert set(ALIASES.values()) == set(TYPES)
