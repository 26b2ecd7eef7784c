"""The page of defects names tests that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/defects.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_the_rows_are_numbered() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 32


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_the_tests_that_are_named_are_there(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {name for other, name in NAMED if other == file} <= found


def test_every_row_names_a_test() -> None:
    rows = re.findall(r"^\| \d+ \|.*$", PAGE, re.MULTILINE)
    assert [row for row in rows if "`tests/" not in row] == []
