"""Files are written whole or not at all, and nowhere else."""

import json
import math
from pathlib import Path

import pytest

from llmsmc.errors import InputError
from llmsmc.storage.json_files import check_writable, dumps, versions, write_json


def test_what_is_not_json_is_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": -math.inf, "b": [math.nan, 1.5], "c": ("é", None)})
    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert read == {"a": None, "b": [None, 1.5], "c": ["é", None]}
    assert "\n" not in dumps({"a": "line\nbreak\u2028"})


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert json.loads((tmp_path / "a.json").read_text()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_json(tmp_path / "link", 1)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "1\n"


def test_a_writable_file_is_not_touched(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", "that is a folder"),
        ("nowhere/a.json", "there is no such folder"),
        ("file/a.json", "there is no such folder"),
        ("/dev/null", "that is not an ordinary file"),
        ("x" * 300, "name too long"),
        ("a\x00b", "null"),
    ],
)
def test_what_cannot_be_written_is_said_before(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        check_writable(tmp_path / name)
    assert reason in str(caught.value)


def test_versions() -> None:
    assert {"llmsmc", "python", "torch", "transformers"} <= set(versions())
