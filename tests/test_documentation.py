"""The examples of the documentation run, in order, as one program a page."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["docs/posteriors.md"])
def test_examples_run(page: str) -> None:
    pytest.importorskip("arviz")
    names: dict[str, Any] = {"__name__": page}
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, example {number}", "exec"), names)
