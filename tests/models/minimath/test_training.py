"""Training: every stage runs, resumes exactly, and ships what the loaders load."""

import json
import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmarks.discrimination import auroc, discrimination, step_accuracy
from llmsmc.errors import InputError
from llmsmc.models import LanguageModel, RewardModel
from llmsmc.models.minimath.checker import num_correct_steps
from llmsmc.models.minimath.datasets import TRAIN, set_of
from llmsmc.models.minimath.problem import draw_problem
from llmsmc.models.minimath.tokenizer import STEP_MARKER, train_tokenizer
from llmsmc.models.minimath.training.corpus import IGNORED, Batches, Mixture, policy_examples
from llmsmc.models.minimath.training.files import copy_weights, read_lines, read_tensors
from llmsmc.models.minimath.training.loop import Reported, Schedule, train
from llmsmc.models.minimath.training.policy import NextToken, Size, new_policy
from llmsmc.models.minimath.training.recipe import NAMES, STAGES, brief, run
from llmsmc.models.minimath.training.reward import labelled
from llmsmc.models.minimath.world.arithmetic import Misconceived, Rates

TINY = Size(hidden=32, intermediate=64, layers=2, heads=2, key_value_heads=1)


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return train_tokenizer(num_problems=300)


@pytest.mark.quick
def test_all_stages_run_and_ship_models_that_load(tmp_path: Path) -> None:
    seen = [report.stage for report in run(tmp_path, recipe=brief(), compiled=False)]
    assert sorted(set(seen)) == sorted(STAGES)
    for stage, name in NAMES.items():
        folder = tmp_path / "models" / name
        loader = RewardModel if stage in ("tuned", "weak") else LanguageModel
        loader.from_pretrained(folder)
        assert name in (folder / "README.md").read_text()
        curve = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
        assert all(math.isfinite(point["loss"]) for point in curve)
    assert list(run(tmp_path, recipe=brief(), compiled=False)) == []  # all is done


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'polciy'; accepted: clean"):
        list(run(tmp_path, only=("polciy",)))


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, tokenizer) -> None:  # type: ignore[no-untyped-def]
    schedule = Schedule(6, num_warmup=2)
    weights = []
    for folder, interrupted in ((tmp_path / "whole", False), (tmp_path / "parts", True)):
        for part in range(2 if interrupted else 1):
            model = new_policy(TINY, tokenizer, seed=0)
            draw = policy_examples(tokenizer, Mixture(), Rates())
            batches = Batches(draw, seed="resume", num_updates=6, num_tokens=200)
            updates = train(
                model, NextToken(model, batches), schedule, folder,
                report_every=3, checkpoint_every=3,
            )  # fmt: skip
            reports = [next(updates).update] if interrupted and part == 0 else []
            if not reports:  # else it is stopped here, after its first checkpoint
                reports = [progress.update for progress in updates]
            assert reports == ([[3], [6]][part] if interrupted else [3, 6])
        curve = (folder / "losses.jsonl").read_text().splitlines()
        assert [json.loads(line)["update"] for line in curve] == [3, 6]
        weights.append([p.detach().clone() for p in model.parameters()])
    for one, other in zip(*weights, strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path: Path, tokenizer) -> None:  # type: ignore[no-untyped-def]
    model = new_policy(TINY, tokenizer, seed=0)
    draw = policy_examples(tokenizer, Mixture(), Rates())
    objective = NextToken(model, Batches(draw, seed="x", num_updates=2, num_tokens=100))
    list(train(model, objective, Schedule(2, num_warmup=1), tmp_path))
    with pytest.raises(ValueError, match="belongs to another training"):
        list(train(model, objective, Schedule(3, num_warmup=1), tmp_path))


def test_training_problems_belong_to_the_training_set() -> None:
    random = Random(0)
    for stage in (0.0, 0.2, 0.9):
        for _ in range(300):
            assert set_of(Mixture().draw(random, stage).question) == TRAIN


def test_labels_say_how_long_all_is_right(tokenizer) -> None:  # type: ignore[no-untyped-def]
    random = Random(3)
    marker = tokenizer.convert_tokens_to_ids(STEP_MARKER)
    for number in range(60):
        problem = draw_problem(random, 1 + number % 5)
        steps = problem.solution(Misconceived(random))
        ids, right, due = labelled(tokenizer, problem, steps)
        assert len(ids) == len(right) == len(due)
        num_correct = num_correct_steps(problem, steps)
        at_markers = [label for token, label in zip(ids, right, strict=True) if token == marker]
        assert at_markers == [1] * num_correct + [0] * (len(steps) - num_correct)
        answered = [label for label in right if label != IGNORED]
        assert answered == sorted(answered, reverse=True)  # once wrong, wrong to the end
        if num_correct < len(steps):
            first = right.index(0)
            assert due[first] not in (ids[first], IGNORED)  # what should have come there
            assert set(due[first + 1 :]) <= {IGNORED}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({label for _, label in rows}) == 2
    )
)
def test_auroc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    pairs = [
        0.5 if good == bad else float(good > bad)
        for good, is_right in rows if is_right
        for bad, other_right in rows if not other_right
    ]  # fmt: skip
    score = np.array([float(value) for value, _ in rows])
    label = np.array([is_right for _, is_right in rows])
    assert auroc(score, label) == pytest.approx(sum(pairs) / len(pairs))


def test_measures_of_perfect_rewards() -> None:
    random = Random(5)
    samples = []
    for number in range(40):
        problem = draw_problem(random, 1 + number % 5)
        samples.append((problem, problem.solution(Misconceived(random))))
    rewards = [
        [float(k < num_correct_steps(problem, steps)) for k in range(len(steps))]
        for problem, steps in samples
    ]
    found = discrimination(samples, rewards)
    assert found.auroc_up_to_first_error == found.auroc_all_steps == 1.0
    assert found.expected_calibration_error == 0.0
    exact = step_accuracy((problem, problem.solution()) for problem, _ in samples)
    assert all(a.solved == a.clean == a.step == 1.0 for a in exact.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}\n", "line 1: it.update is missing"),
        (b'{"update": 1}\n[]\n', "line 2: it is "),
        (b'{"update": 1}\nwords\n', "line 2: it is no JSON at character 1"),
        (b'{"update": "1"}\n', "it.update is '1'; accepted: an integer"),
        (b'{"update": NaN}\n', "no number of JSON"),
        (b"\xff\n", "line 1: "),
        (b"[" * 9999 + b"\n", "levels deep"),
    ],
)
def test_lines_of_others_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "losses.jsonl"
    path.write_bytes(b'{"update": 1}\n{"upda')
    assert read_lines(path, Reported) == [{"update": 1}]
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_lines(path, Reported)
    assert str(path) in str(caught.value)


def test_checkpoints_of_others_are_refused(tmp_path: Path) -> None:
    model, path = torch.nn.Linear(2, 2), tmp_path / "state.safetensors"
    tensors = {f"model.{name}": each.detach() for name, each in model.named_parameters()}
    save_file(tensors, path)
    read, record = read_tensors(path)
    copy_weights(model, read, path)
    assert record == {}
    for wrong in ({}, {"model.weight": torch.zeros(2, 2)}, tensors | {"model.bias": torch.ones(3)}):
        with pytest.raises(InputError, match="is missing, or not"):
            copy_weights(model, wrong, path)
    for content in (b"", path.read_bytes()[:-1], b"\x80\x04", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(InputError, match="as it was written"):
            read_tensors(path)
    with pytest.raises(InputError, match="not an ordinary file"):
        read_tensors(tmp_path)
