"""Solutions are those that a filter draws; what is missing is drawn again; questions are split."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Example
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.policies.policy import Policy
from llmsmc.models.reasoning.cutting import cut
from llmsmc.models.rewards.probe import (
    FeatureFolder,
    LabelledSolution,
    StepFeatures,
    read_solutions,
)
from llmsmc.models.rewards.probe.features import TokenSteps
from llmsmc.models.text.stopping import Delimiter, StepRule, TokenCount
from llmsmc.training import samples as module
from llmsmc.training.lines import Lines, Row
from llmsmc.training.samples import draw_missing, splits
from llmsmc.training.sampling import Sampling

SMALL: dict[str, Any] = {"num_samples": 3, "in_flight": 2, "max_tokens": 30}


def drawn(path: Path, examples: tuple[Example, ...], sampling: Sampling) -> bytes:
    for _ in draw_missing(examples, sampling, Lines(path)):
        pass
    return path.read_bytes()


@pytest.mark.parametrize("rule", [Delimiter("\n\n"), Delimiter("\n"), TokenCount(5)])
def test_whole_answers_are_cut_as_steps_are_drawn(policy: LanguageModel, rule: StepRule) -> None:
    model = Reasoning(policy, None, "What is 3 + 4?", step=rule, max_steps=None, max_tokens=40)
    generator = torch.Generator().manual_seed(1)
    state, t = model.sample_initial(8, generator=generator), 1
    while not bool(state.finished.all()):
        state, t = model.sample_transition(t, state, generator=generator), t + 1
    pieces = cut(policy, rule, [particle.token_ids for particle in state])
    assert [piece.steps for piece in pieces] == list(state.steps)
    ends = [row[:n] for row, n in zip(state.step_ends.tolist(), state.num_steps, strict=True)]
    assert [list(piece.step_ends) for piece in pieces] == ends
    assert [piece.num_tokens for piece in pieces] == state.num_tokens.tolist()


def test_a_solution_ends_with_the_step_of_its_answer(policy: LanguageModel) -> None:
    texts = ["It is 42.\n\n", "\\boxed{42}\n\n", "Then \\boxed{43}."]
    ids = [policy.tokens.encode(text) for text in texts]
    whole = [token for each in ids for token in each]
    (piece,) = cut(policy, Delimiter(), [whole])
    assert (piece.steps, piece.gives_answer) == (tuple(texts[:2]), True)
    assert piece.step_ends == (len(ids[0]), len(ids[0]) + len(ids[1]))
    (piece,) = cut(policy, Delimiter(), [whole], stop_at_answer=False)
    assert piece.steps == tuple(texts) and piece.num_tokens == len(whole)


def test_nothing_and_blank_solutions(policy: LanguageModel) -> None:
    blank = policy.tokens.encode("\n\n")
    end = policy.eos_ids[0]
    nothing, alone, spaces = cut(policy, Delimiter(), [[], [end], [*blank, end]])
    assert (nothing.steps, nothing.num_tokens) == ((), 0)
    assert (alone.steps, alone.num_tokens) == ((), 1)
    assert (spaces.steps, spaces.num_tokens) == ((), len(blank) + 1)


def recorded(folder: FeatureFolder, rows: list[Row], sampling: Sampling) -> list[StepFeatures]:
    """Return what is in a folder of the solutions of one question after the other."""
    found = []
    for start in range(0, len(rows), sampling.num_samples):
        ids = [row["token_ids"] for row in rows[start : start + sampling.num_samples]]
        told = [TokenSteps(a, b.step_ends) for a, b in zip(ids, sampling.cut(ids), strict=True)]
        told = [each for each in told if each.step_ends]
        prompt_ids = folder.policy.prompt_ids(rows[start]["question"])
        each = folder.load(prompt_ids, told)
        assert each is not None
        solutions = [
            LabelledSolution("", prompt_ids, (*ids,), (*ends,), (), "train", f"{n}")
            for n, (ids, ends, _) in enumerate(told)
        ]
        other = StepFeatures.joined(
            list(read_solutions(folder.policy, solutions, None, folder.path / "read"))
        )
        torch.testing.assert_close(each.known, other.known, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(each.states, other.states, rtol=2e-3, atol=2e-3)
        found.append(each)
    return found


@pytest.mark.parametrize("rule", [Delimiter("\n"), TokenCount(5)])
def test_what_is_recorded_is_what_is_read(tmp_path: Path, rule: StepRule) -> None:
    """The solutions are those that are drawn without a record."""
    policy = LanguageModel.from_pretrained("minimath-policy-small")
    questions = tuple(Example(f"q/{n}", f"What is {n} + 1?", str(n + 1)) for n in range(3))
    folder = FeatureFolder(tmp_path / "features", policy)
    sampling = Sampling(policy, rule, num_samples=3, in_flight=2, max_tokens=40)
    plain = drawn(tmp_path / "plain.jsonl", questions, sampling)
    again = drawn(tmp_path / "again.jsonl", questions, replace(sampling, features=folder))
    assert plain == again
    found = recorded(folder, Lines(tmp_path / "plain.jsonl").rows, sampling)
    assert all(each.states.dtype == torch.float16 for each in found)
    assert len(found) == 3 and sum(len(each.known) for each in found) > 9


@pytest.mark.parametrize("is_full", [True, False])
def test_records_are_written_before_solutions(
    policy: LanguageModel,
    examples: tuple[Example, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_full: bool,
) -> None:
    """A full disk, or a kill between both, leaves no solutions without a record."""
    folder, names = FeatureFolder(tmp_path / "features", policy), list[str]()
    sampling = Sampling(policy, Delimiter(), **SMALL, features=folder)

    def fail(*_: Any) -> None:
        names.extend(path.name for path in folder.path.glob("*.safetensors"))
        raise OSError(28, "No space left on device")

    if is_full:
        monkeypatch.setattr(Path, "write_bytes", fail)
    else:
        monkeypatch.setattr(Lines, "append", fail)
    lines = Lines(tmp_path / "samples.jsonl")
    with pytest.raises(InputError if is_full else OSError, match="No space left"):
        next(draw_missing(examples, sampling, lines))
    assert not lines.rows and len(names) == (not is_full)
    monkeypatch.undo()
    for _ in draw_missing(examples, sampling, lines):
        pass
    assert len(recorded(folder, lines.rows, sampling)) == len(examples)


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("kept", [1, 20])
def test_a_stage_that_was_killed_is_taken_up_where_it_was(
    policy: LanguageModel,
    examples: tuple[Example, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: int,
    in_flight: int,
) -> None:
    """Nothing is drawn again; one question at a time the solutions are the same bit for bit."""
    sampling = Sampling(policy, Delimiter(), **SMALL | {"in_flight": in_flight})
    whole = drawn(tmp_path / "whole.jsonl", examples, sampling)
    lines, tried = whole.splitlines(keepends=True), list[str]()
    assert len(lines) == 30
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"".join(lines[:kept]) + lines[kept][:40])
    draw = module._drawn

    def counted(policy: Policy, example: Example, **settings: Any) -> Any:
        tried.append(example.id)
        return draw(policy, example, **settings)

    monkeypatch.setattr(module, "_drawn", counted)
    again = drawn(broken, examples, sampling)
    num_done = kept // 3  # questions, those of which all solutions are there
    assert again.splitlines(keepends=True)[: 3 * num_done] == lines[: 3 * num_done]
    before = {row["id"] for row in Lines(broken).rows[: 3 * num_done]}
    assert tried == [each.id for each in examples if each.id not in before]
    assert len(tried) == 10 - num_done
    if in_flight == 1:
        assert again == whole
    one, other = (
        {(row["id"], row["sample"]): row["token_ids"] for row in Lines(path).rows}
        for path in (tmp_path / "whole.jsonl", broken)
    )
    assert one == other


def test_rows(policy: LanguageModel, examples: tuple[Example, ...], tmp_path: Path) -> None:
    lines = Lines(tmp_path / "samples.jsonl")
    sampling = Sampling(policy, Delimiter(), **SMALL)
    asked = (*examples, Example("empty", " ", "1"))
    for _ in draw_missing(asked, sampling, lines):
        pass
    rows = [row for row in lines.rows if row["id"] != "empty"]
    assert {(row["id"], row["sample"]) for row in rows} == {
        (each.id, k) for each in examples for k in range(3)
    }
    for row in rows:
        assert len(row["token_ids"]) == len(row["log_probs"]) <= 30
        assert row["correct"] == (row["found"] == row["answer"])
        (piece,) = cut(policy, Delimiter(), [row["token_ids"]])
        assert piece.text == row["text"]
    (empty,) = (row for row in lines.rows if row["id"] == "empty")
    assert "question" in empty["error"]


def test_splits_are_of_questions_and_depend_on_the_seed() -> None:
    ids = [f"q/{n}" for n in range(50)]
    found = splits(ids, 0)
    counts = {split: list(found.values()).count(split) for split in found.values()}
    assert counts == {"train": 40, "validation": 5, "test": 5}
    assert splits(ids[::-1], 0) == found != splits(ids, 1)
    assert set(splits(ids[:3], 0).values()) == {"train", "validation", "test"}


@pytest.mark.parametrize("wrong", [{"num_samples": 0}, {"temperature": 0}, {"in_flight": -1}])
def test_settings_that_cannot_be(policy: LanguageModel, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Got"):
        Sampling(policy, Delimiter(), **wrong)
