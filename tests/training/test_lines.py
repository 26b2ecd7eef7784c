"""Rows outlive whatever ends the process that writes them."""

from pathlib import Path

import pytest

from llmsmc.errors import InputError
from llmsmc.training.lines import Lines


@pytest.mark.parametrize("rest", [b"", b'{"n": 3', b"{", b"\xff", b'{"n": 3}'])
def test_a_last_line_that_was_cut_is_dropped(tmp_path: Path, rest: bytes) -> None:
    lines = Lines(tmp_path / "rows.jsonl")
    lines.append([{"n": 1}, {"n": 2}])
    with lines.path.open("ab") as file:
        file.write(rest)
    again = Lines(lines.path)
    assert again.rows == [{"n": 1}, {"n": 2}]
    again.append([{"n": 4}])
    assert Lines(lines.path).rows == [{"n": 1}, {"n": 2}, {"n": 4}]


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b'{"n": NaN}\n', b'{"n": 1, "n": 2}\n'])
def test_a_line_that_was_finished_is_kept_or_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"n": 1}\n' + line)
    with pytest.raises(InputError, match="line 2"):
        Lines(tmp_path / "rows.jsonl")


def test_dropping_rows(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "rows.jsonl")
    lines.append([{"n": n} for n in range(5)])
    lines.keep(2)
    lines.append([{"n": 7}])
    assert Lines(lines.path).rows == lines.rows == [{"n": 0}, {"n": 1}, {"n": 7}]


def test_a_full_disk_leaves_what_was_there() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device that is always full")
    lines = Lines.__new__(Lines)
    lines.path, lines.rows = full, []
    with pytest.raises(InputError, match="No space left"):
        lines.append([{"n": 1}])
    assert lines.rows == []
