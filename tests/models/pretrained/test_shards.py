"""The index of a checkpoint in several files names safetensors files beside it, or is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmsmc import InputError
from llmsmc.models.policies.language_model import LanguageModel

pytest.importorskip("llmsmc.models.pretrained.checkpoints")
INDEX = "model.safetensors.index.json"


class Traitor:
    """Its pickle writes a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


@pytest.fixture
def sharded(policy_folder: Path, tmp_path: Path) -> Path:
    """A policy in two files."""
    folder = tmp_path / "sharded"
    shutil.copytree(policy_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def rename(folder: Path, name: str) -> None:
    """Let the index say that the second file is another one."""
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"b.safetensors"', json.dumps(name)))


def test_files_beside_the_index_are_read(sharded: Path) -> None:
    LanguageModel.from_pretrained(sharded)


@pytest.mark.parametrize(
    "name", ["b.bin", "pytorch_model.bin", "b.pt", "b.pkl", "b.safetensors.bin"]
)
def test_pickles_are_refused_unread(sharded: Path, tmp_path: Path, name: str) -> None:
    torch.save({"x": Traitor(tmp_path / "canary")}, sharded / name)
    rename(sharded, name)
    with pytest.raises(InputError, match="safetensors files"):
        LanguageModel.from_pretrained(sharded)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_under_another_name_is_refused(sharded: Path, tmp_path: Path) -> None:
    torch.save({"x": Traitor(tmp_path / "canary")}, sharded / "b.safetensors")
    with pytest.raises(InputError):
        LanguageModel.from_pretrained(sharded)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "7", "{}", '{"weight_map": 3}', '{"weight_map": []}'),
        *('{"weight_map": {"a": 1}}', '{"weight_map": {"a": null}}', '{"weight_map": {"a": [1]}}'),
        *('{"metadata": {}, "weight_map": {}}', '{"weight_map": {"a": ""}}', "[" * 100_000),
        *('{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": {"a": "/b.safetensors"}}'),
        '{"weight_map": {"a": "nowhere.safetensors"}}',
    ],
    ids=range(17),
)
def test_an_index_of_any_content_is_refused(sharded: Path, content: str) -> None:
    (sharded / INDEX).write_text(content)
    with pytest.raises(InputError):
        LanguageModel.from_pretrained(sharded)
