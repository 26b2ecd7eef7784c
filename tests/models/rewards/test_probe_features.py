"""Files of what a policy says of steps: whose they are, and in which precision."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llmsmc.errors import InputError
from llmsmc.models import LanguageModel
from llmsmc.models.rewards.labels import mean_label
from llmsmc.models.rewards.probe import (
    FeatureFolder,
    LabelledSolution,
    StepFeatures,
    read_solutions,
    training,
)
from llmsmc.models.rewards.probe.features import TokenSteps

PROMPT = (3, 4)
SOLUTIONS = [TokenSteps((5, 6, 7), (2, 3)), TokenSteps((8,), (1,))]


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return LanguageModel.from_pretrained("minimath-policy-small")


def steps(folder: FeatureFolder, count: int = 3, largest: float = 1.0) -> StepFeatures:
    """Features of as many steps, with one token each, whose states are up to so large."""
    features = torch.linspace(0, largest, folder.readout.size).repeat(1, count, 1)
    told = [TokenSteps(range(count), range(1, count + 1))]
    return StepFeatures.pooled(features, -torch.ones(1, count).double(), told)


@pytest.mark.parametrize(("largest", "dtype"), [(6e4, torch.float16), (1e5, torch.float32)])
def test_states_are_halved_where_they_can_be(
    policy: LanguageModel, tmp_path: Path, largest: float, dtype: torch.dtype
) -> None:
    folder = FeatureFolder(tmp_path / "features", policy)
    kept = steps(folder, largest=largest)
    folder.save(PROMPT, SOLUTIONS, kept)
    found = folder.load(PROMPT, SOLUTIONS)
    assert found is not None and found.states.dtype == dtype and found.known.dtype == torch.float32
    assert torch.equal(found.states, kept.states) and torch.equal(found.known, kept.known)
    assert float(found.states.max()) == pytest.approx(largest, rel=1e-3)
    assert [path.suffix for path in folder.path.iterdir()] == [".safetensors"]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "spoil",
    [
        cut_short,
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_file_that_is_broken_is_not_used(
    policy: LanguageModel, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    folder = FeatureFolder(tmp_path, policy)
    folder.save(PROMPT, SOLUTIONS, steps(folder))
    spoil(folder.file(PROMPT))
    assert folder.load(PROMPT, SOLUTIONS) is None


def test_a_file_of_something_else_is_not_used(policy: LanguageModel, tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, policy)
    folder.save(PROMPT, SOLUTIONS, steps(folder))
    assert folder.load(PROMPT, SOLUTIONS) is not None
    assert folder.load((3,), SOLUTIONS) is None
    assert folder.load(PROMPT, SOLUTIONS[::-1]) is None
    assert folder.load(PROMPT, SOLUTIONS[:1]) is None
    assert folder.load(PROMPT, [TokenSteps((5, 6, 7), (1, 3)), SOLUTIONS[1]]) is None
    assert folder.load(PROMPT, [TokenSteps((5, 6, 9), (2, 3)), SOLUTIONS[1]]) is None
    assert FeatureFolder(tmp_path, policy, [1]).load(PROMPT, SOLUTIONS) is None
    half = LanguageModel.from_pretrained("minimath-policy-small", dtype="bfloat16")
    assert FeatureFolder(tmp_path, half).load(PROMPT, SOLUTIONS) is None
    other = LanguageModel.from_pretrained("minimath-policy-small")
    with torch.no_grad():
        other.model.model.embed_tokens.weight.mul_(2)
    assert FeatureFolder(tmp_path, other).load(PROMPT, SOLUTIONS) is None
    folder.save(PROMPT, SOLUTIONS, steps(folder, 2))  # of fewer steps than the solutions have
    assert folder.load(PROMPT, SOLUTIONS) is None


@pytest.mark.parametrize("has_links", [True, False])
def test_files_of_another_folder(
    policy: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refused(*_: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    other = FeatureFolder(tmp_path / "other", policy)
    folder = FeatureFolder(tmp_path / "new" / "features", policy)
    other.save(PROMPT, SOLUTIONS, steps(other))
    (other.path / "checkpoint.safetensors").write_bytes(b"of another kind")
    folder.take_over(other.path)
    assert folder.load(PROMPT, SOLUTIONS) is not None
    assert [path.name for path in folder.path.iterdir()] == [folder.file(PROMPT).name]
    folder.save(PROMPT, SOLUTIONS[:1], steps(folder, 2))
    assert other.load(PROMPT, SOLUTIONS) is not None
    folder.take_over(other.path)
    assert folder.load(PROMPT, SOLUTIONS[:1]) is not None


def test_solutions_come_in_their_order_and_are_read_once(
    policy: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [policy.prompt_ids(f"What is {n} + 1?") for n in range(2)]
    ids = policy.tokens.encode("It is 3.")
    solutions = [
        LabelledSolution("?", prompts[n % 2], ids[: n + 2], (1, n + 2), (1.0, 0.0), "train", f"{n}")
        for n in range(4)
    ]
    found = list(read_solutions(policy, solutions, None, tmp_path))
    monkeypatch.delattr(training, "score")
    again = list(read_solutions(policy, solutions, None, tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    for each, other, solution in zip(found, again, solutions, strict=True):
        assert torch.equal(each.states, other.states) and torch.equal(each.known, other.known)
        told = each.known[:, -1].exp().round().int().tolist()  # the number of tokens so far
        assert told == list(solution.step_ends)


@pytest.mark.parametrize("layers", [(), (-1,), (99,), (True,)])
def test_layers_that_are_none(policy: LanguageModel, tmp_path: Path, layers: tuple[int]) -> None:
    with pytest.raises(InputError, match="layers are numbers"):
        FeatureFolder(tmp_path, policy, layers)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([], "0 labels in the split 'train'"),
        ([float("nan")], "0 labels"),
        ([1.0, float("nan")], "1 label, all of one kind .all right."),
        ([0.0, 0.0], "2 labels, all of one kind .all wrong."),
    ],
)
def test_labels_of_which_nothing_is_learnt(labels: list[float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        mean_label(labels, "train")
    assert mean_label([*labels, 0.25, 0.25], "train") > 0
