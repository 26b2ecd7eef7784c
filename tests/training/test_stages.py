"""A training from its questions to its report: what it leaves, refuses and survives."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from llmsmc.errors import InputError
from llmsmc.models import LanguageModel, RewardModel
from llmsmc.models.rewards.probe import Probe
from llmsmc.models.rewards.probe import training as probe_training
from llmsmc.training.lines import Lines
from llmsmc.training.scoring import joined, score_missing
from llmsmc.training.stages import TRAINED, RewardTraining, run
from tests.training.killed import training

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def job(policy_folder: Path) -> RewardTraining:
    return training(str(policy_folder), "probe")


@pytest.fixture(scope="module")
def labelled(job: RewardTraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    run(job, folder, until="labels")
    return folder


@pytest.mark.parametrize("method", ["probe", "adapter", "head"])
def test_from_questions_to_a_reward(
    job: RewardTraining, labelled: Path, policy_folder: Path, tmp_path: Path, method: str
) -> None:
    base = str(policy_folder) if method == "head" else None
    job = replace(job, method=method, base=base, also=("own-log-prob",))
    report = run(job, tmp_path, reuse=labelled)
    assert report is not None and list(report["rewards"])[1] == "own-log-prob"
    for name in ("samples.jsonl", "labels.jsonl"):
        assert (tmp_path / name).read_bytes() == (labelled / name).read_bytes()
    folder = tmp_path / "reward"
    written = {path.name for path in folder.iterdir()}
    assert {"README.md", "report.json", "report.md"} <= written
    assert json.loads((folder / "report.json").read_text())["rewards"].keys() == (
        report["rewards"].keys()
    )
    if method == "probe":
        Probe.from_pretrained(folder, LanguageModel.from_pretrained(policy_folder))
        return
    loaded = RewardModel.from_pretrained(folder)
    assert type(loaded.convention).__name__ == "TrlConvention"
    rows = {(row["id"], row["sample"]): row for row in Lines(tmp_path / "labels.jsonl").rows}
    questions = {row["id"]: row["question"] for row in Lines(tmp_path / "samples.jsonl").rows}
    scores = Lines(tmp_path / "scores-trained.jsonl").rows
    name, _, sample = scores[0]["solution"].rpartition("/")
    steps = rows[name, int(sample)]["steps"]
    assert loaded.log_odds(questions[name], steps).tolist() == pytest.approx(
        scores[0]["log_odds"], abs=1e-5
    )
    # Run again, nothing is done again.
    before = (folder / "config.json").stat().st_mtime_ns
    run(job, tmp_path)
    assert (folder / "config.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("method", ["probe", pytest.param("adapter", marks=pytest.mark.quick)])
def test_killed_in_each_stage(policy_folder: Path, tmp_path: Path, method: str) -> None:
    folders = [str(policy_folder), str(tmp_path)]
    command = [sys.executable, "-m", "tests.training.killed", *folders, method]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    stages = ["samples", "labels", method, "report"]
    expected = [*(f"{stage} killed" for stage in stages), "same"]
    if method == "probe":
        expected = ["rows killed", *expected, "probe, reading killed", "same"]
    assert done.stdout.splitlines() == expected, done.stderr[-2000:]
    if method == "probe":
        assert_alike(tmp_path / "whole", tmp_path / "whole-read")


def assert_alike(recorded: Path, read: Path) -> None:
    """Two trainings come to the same, up to the rounding of what was read in other batches."""
    one, other = (Lines(each / "scores-trained.jsonl").rows for each in (recorded, read))
    assert [row["solution"] for row in one] == [row["solution"] for row in other] and one
    for row, same in zip(one, other, strict=True):
        assert row["log_odds"] == pytest.approx(same["log_odds"], abs=0.02)
    reports = (json.loads((each / "reward/report.json").read_text()) for each in (recorded, read))
    auroc, again = (each["rewards"][TRAINED]["auroc_all_steps"]["value"] for each in reports)
    assert auroc == pytest.approx(again, abs=0.05)
    names = [{path.name for path in (each / "features").iterdir()} for each in (recorded, read)]
    assert names[0] == names[1] and len(names[0]) > 5


def test_nothing_is_read_twice(
    job: RewardTraining, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe is trained and reported by what was recorded; its folder is loaded for the report."""

    def score_tokens(*_: Any) -> None:
        raise AssertionError("read")

    with monkeypatch.context() as patched:
        patched.delattr(probe_training, "score")
        patched.setattr(LanguageModel, "score_tokens", score_tokens)
        assert run(job, tmp_path, reuse=labelled) is not None
    assert isinstance(job.settings.policy, str)
    policy = LanguageModel.from_pretrained(job.settings.policy)
    probe = Probe.from_pretrained(tmp_path / "reward", policy)
    samples, labels, scores, lines = (
        Lines(tmp_path / f"{name}.jsonl")
        for name in ("samples", "labels", "scores-trained", "scores-read")
    )
    found = {row["solution"]: row["log_odds"] for row in scores.rows}
    held_out = [each for each in joined(samples.rows, labels.rows) if each.split == "test"]
    for _ in score_missing(probe, held_out, lines, policy.prompt_ids):
        pass
    assert {row["solution"] for row in lines.rows} == set(found) != set()
    for row in lines.rows:
        assert row["log_odds"] == pytest.approx(found[row["solution"]], abs=0.02)


def test_fingerprints_of_the_weights(
    job: RewardTraining, labelled: Path, policy_folder: Path, tmp_path: Path
) -> None:
    """A training, and the probe that it makes, know the policy by the same."""
    shutil.copytree(labelled, tmp_path / "run")
    run(job, tmp_path / "run", until="training")
    config = json.loads((tmp_path / "run/config.json").read_text())
    probe = json.loads((tmp_path / "run/reward/probe.json").read_text())
    told = config["stages"]["samples"]["policy_fingerprint"]
    assert told == probe["fingerprints"]
    # A folder of an earlier version has a hash of another kind, and more, and is taken up.
    config["stages"]["samples"] |= {"policy_fingerprint": "0123456789abcdef", "block_size": 4}
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    assert run(job, tmp_path / "run") is not None
    # Other weights behind the same name are refused.
    copied = tmp_path / "policy"
    shutil.copytree(policy_folder, copied)
    job = replace(job, settings=replace(job.settings, policy=str(copied)))
    run(job, tmp_path / "own", until="samples")
    weights = load_file(copied / "model.safetensors")
    name = next(name for name in weights if name.endswith("down_proj.weight"))
    save_file(weights | {name: -weights[name]}, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"policy_fingerprint.layers"):
        run(job, tmp_path / "own")


def test_nothing_is_recorded_where_no_probe_is_trained(
    job: RewardTraining, labelled: Path, tmp_path: Path
) -> None:
    assert any((labelled / "features").iterdir())
    run(replace(job, method="adapter"), tmp_path / "adapter", until="samples")
    run(replace(job, also=("own-log-prob",)), tmp_path / "report", report_only=True)
    for name in ("adapter", "report"):
        assert not (tmp_path / name / "features").exists()
        samples = (tmp_path / name / "samples.jsonl").read_bytes()
        assert samples == (labelled / "samples.jsonl").read_bytes()


def test_a_policy_that_is_never_right(job: RewardTraining, labelled: Path, tmp_path: Path) -> None:
    job = replace(job, labels="outcome", checker=None)
    with pytest.raises(InputError, match="36 solutions, of which 0 are right"):
        run(job, tmp_path, reuse=labelled)
    assert len(Lines(tmp_path / "samples.jsonl").rows) == 36
    with pytest.raises(InputError, match="36 solutions, of which 0 are right"):
        run(job, tmp_path)


@pytest.mark.parametrize(("method", "learner"), [("probe", "train_probe"), ("adapter", "fitted")])
def test_a_checker_that_finds_nothing(
    job: RewardTraining, labelled: Path, tmp_path: Path, method: str, learner: str
) -> None:
    """Labels are checked once, by what learns from them."""
    job = replace(job, checker="tests.training.checkers:generous", method=method)
    with pytest.raises(InputError, match="all of one kind") as error:
        run(job, tmp_path, reuse=labelled)
    assert error.traceback[-2].name == learner
    assert Lines(tmp_path / "labels.jsonl").rows and not (tmp_path / "reward").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 1}, "seed 1, which is 0 there"),
        ({"num_samples": 2}, "samples 2, which is 3 there"),
        ({"range": ":5"}, "last 5, which is 12 there"),
        ({"checker": "tests.training.checkers:generous"}, "checker"),
        ({"method": "adapter"}, "method"),
    ],
)
def test_a_folder_of_another_configuration(
    job: RewardTraining, labelled: Path, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    if "method" in changed:
        run(job, tmp_path, reuse=labelled, until="training")
    folder = tmp_path if "method" in changed else labelled
    with pytest.raises(InputError, match=told):
        run(replace(job, **changed), folder)


def test_a_report_of_other_rewards(job: RewardTraining, labelled: Path, tmp_path: Path) -> None:
    job = replace(job, also=("own-log-prob", "tests.training.rewards:by_length"))
    report = run(job, tmp_path, reuse=labelled, report_only=True)
    assert report is not None and not (tmp_path / "reward").exists()
    assert list(report["rewards"])[:2] == list(job.also)
    assert (tmp_path / "report.md").read_text().count("| own-log-prob |") == 1
    with pytest.raises(InputError, match="--report-only"):
        run(replace(job, also=()), tmp_path, report_only=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "guess"},
        {"method": "head"},
        {"base": "x"},
        {"range": "13:"},
        {"labels": "outcome"},
    ],
)
def test_settings_that_cannot_be(job: RewardTraining, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Got"):
        replace(job, **wrong)
