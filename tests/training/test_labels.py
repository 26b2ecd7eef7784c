"""Labels of steps: by the outcome, by continuations, by checkers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from llmsmc.errors import InputError
from llmsmc.evaluation.datasets import Example
from llmsmc.models import LanguageModel
from llmsmc.models.minimath.datasets import minimath_dev
from llmsmc.models.policies.policy import Policy
from llmsmc.models.text.stopping import Delimiter
from llmsmc.training import labels as module
from llmsmc.training.checkers import named_checker
from llmsmc.training.labels import Labelling, is_decided, label_missing
from llmsmc.training.lines import Lines, Row
from llmsmc.training.samples import draw_missing
from llmsmc.training.sampling import Sampling
from llmsmc.training.verdicts import verdicts
from tests.training.checkers import one_too_few, short


@pytest.fixture(scope="module")
def sampling(policy: LanguageModel) -> Sampling:
    return Sampling(policy, Delimiter("\n"), num_samples=3, max_tokens=40, in_flight=2)


@pytest.fixture(scope="module")
def samples(
    sampling: Sampling, examples: tuple[Example, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[Row]:
    lines = Lines(tmp_path_factory.mktemp("samples") / "samples.jsonl")
    for _ in draw_missing(examples[:4], sampling, lines):
        pass
    return lines.rows


def labelled(path: Path, samples: list[Row], sampling: Sampling, labelling: Labelling) -> list[Row]:
    lines = Lines(path)
    for _ in label_missing(samples, sampling, labelling, lines):
        pass
    return sorted(lines.rows, key=lambda row: (row["id"], row["sample"]))


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuations end right at random, and the more so, the shorter the prefix is."""
    monkeypatch.setattr(module, "extract_answer", lambda text, *_, **__: text)
    monkeypatch.setattr(module, "grade", lambda text, _: "right" if len(text) % 3 else "wrong")


def test_outcomes(tmp_path: Path, samples: list[Row], sampling: Sampling) -> None:
    samples = [row | {"correct": row["sample"] == 1} for row in samples]
    for row in labelled(tmp_path / "labels.jsonl", samples, sampling, Labelling()):
        assert row["labels"] == [float(row["sample"] == 1)] * len(row["steps"])
        assert len(row["steps"]) == len(row["step_ends"]) and row["continuations"] == 0


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("hard", [False, True])
def test_continuations(
    tmp_path: Path,
    samples: list[Row],
    sampling: Sampling,
    monkeypatch: pytest.MonkeyPatch,
    hard: bool,
) -> None:
    labelling = Labelling("continuations", num_continuations=8, hard=hard)
    rows = labelled(tmp_path / "labels.jsonl", samples, sampling, labelling)
    for row, sample in zip(rows, samples, strict=True):
        assert len(row["labels"]) == len(row["steps"])
        if row["steps"]:
            assert row["labels"][-1] == float(sample["correct"])
            assert row["continuations"] <= 8 * (len(row["steps"]) - 1)
    inner = [label for row in rows for label in row["labels"][:-1]]
    assert set(inner) == {1.0} if hard else 0.5 < sum(inner) / len(inner) < 0.8
    # Taken up again, from any place, it draws what is missing, and nothing else.
    content, tried = (tmp_path / "labels.jsonl").read_bytes(), list[str]()
    (tmp_path / "cut.jsonl").write_bytes(content[: len(content) // 2])
    kept = Lines(tmp_path / "cut.jsonl").rows
    continued = module._continued

    def counted(policy: Policy, row: Row, **settings: Any) -> Row:
        tried.append(module.name_of(row))
        return continued(policy, row, **settings)

    monkeypatch.setattr(module, "_continued", counted)
    assert labelled(tmp_path / "cut.jsonl", samples, sampling, labelling) == rows
    assert Lines(tmp_path / "cut.jsonl").rows[: len(kept)] == kept
    assert sorted([*tried, *map(module.name_of, kept)]) == sorted(map(module.name_of, samples))


def test_the_cache_of_a_solution_serves_all_prefixes(
    samples: list[Row], sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuations are what a policy draws that has read each prefix by itself."""
    row = max(samples, key=lambda row: len(row["token_ids"]))
    piece = module._cut(sampling, row)
    drawn = list[torch.Tensor]()
    sample_step = LanguageModel.sample_step

    def kept(self: LanguageModel, request: Any) -> Any:
        found = sample_step(self, request)
        drawn.append(found[0].token_ids)
        return found

    monkeypatch.setattr(LanguageModel, "sample_step", kept)
    for is_cached in (True, False):
        continuations = module._Continuations(sampling.policy, row, sampling, piece)
        assert continuations._handle is not None
        if not is_cached:
            continuations._handle = None
        continuations.draw(piece.step_ends[:-1], 2)
    assert len(piece.steps) > 2 and torch.equal(*drawn)


def test_binary_search(
    tmp_path: Path, samples: list[Row], sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A solution is lost with its third step, if it has so many."""
    asked = list[int]()

    def draw(self: Any, ends: list[int], count: int) -> list[int]:
        asked.append(len(ends))
        return [count * (end < (*self._piece.step_ends, 99, 99, 99)[2]) for end in ends]

    monkeypatch.setattr(module._Continuations, "draw", draw)
    labelling = Labelling("first-error", num_continuations=8)
    samples = [row | {"correct": False} for row in samples]
    for row in labelled(tmp_path / "labels.jsonl", samples, sampling, labelling):
        count = len(row["steps"])
        before = min(2, max(count - 1, 0))
        expected = [1.0] * before + [0.0] * (count > 0) + [None] * max(count - 3, 0)
        assert row["labels"] == expected
    right = [row | {"correct": True} for row in samples]
    for row in labelled(tmp_path / "right.jsonl", right, sampling, labelling):
        assert row["labels"] == [1.0] * len(row["steps"]) and row["continuations"] == 0


@pytest.mark.parametrize(
    ("num_right", "count", "hard", "decided"),
    [
        (0, 3, False, False),
        (0, 4, False, True),
        (4, 4, False, True),
        (1, 4, False, False),
        (1, 8, False, True),
        (8, 16, False, True),
        (0, 8, True, False),
        (1, 1, True, True),
        (0, 16, True, True),
    ],
)
def test_when_a_label_is_decided(num_right: int, count: int, hard: bool, decided: bool) -> None:
    assert is_decided(num_right, count, 16, hard=hard) == decided


def test_the_exact_checker_of_minimath() -> None:
    problem = minimath_dev()[7]
    steps = list(problem.solution())
    found = verdicts(named_checker("minimath"), problem.question, [*steps[:-1], "1 + 1 = 3.", "2."])
    assert found == [1.0] * (len(steps) - 1) + [0.0, 0.0]
    with pytest.raises(InputError, match="minimath-dev"):
        verdicts(named_checker("minimath"), "What is 1 + 1?", ["2."])


def test_a_checker_of_ones_own() -> None:
    assert verdicts(named_checker("tests.training.checkers:short"), "?", ["a", "b", "c" * 3]) == [
        1.0,
        1.0,
        0.0,
    ]
    assert verdicts(lambda *_: [None, 0.5, None, True], "?", ["a"] * 4) == [None, 0.5, 0.5, 0.5]
    with pytest.raises(InputError, match="1 verdict on 2 steps"):
        verdicts(one_too_few, "?", ["a", "b"])
    with pytest.raises(InputError, match="'yes'"):
        verdicts(lambda *_: ["yes"], "?", ["a"])
    with pytest.raises(InputError, match="ZeroDivisionError"):
        verdicts(lambda *_: [1 / 0], "?", ["a"])


@pytest.mark.parametrize("name", ["nothing", "tests.training.checkers:NOTHING", "no.module:f"])
def test_checkers_that_are_none(name: str) -> None:
    with pytest.raises(InputError):
        named_checker(name)


@pytest.mark.parametrize(
    "wrong",
    [{"labeller": "guess"}, {"labeller": "checker"}, {"checker": short}, {"num_continuations": 0}],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Got"):
        Labelling(**wrong)
