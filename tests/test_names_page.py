"""The page of names has every public name, with words by which it may be searched for."""

import re
from pathlib import Path
from types import ModuleType

import pytest

import llmsmc
import llmsmc.inference
import llmsmc.models
import llmsmc.testing

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "names.md").read_text()

packages = pytest.mark.parametrize(
    "package",
    [llmsmc, llmsmc.models, llmsmc.inference, llmsmc.testing],
    ids=lambda package: package.__name__,
)


def rows(package: str) -> dict[str, tuple[str, str]]:
    """Name -> what it is and its search words, from the section of a package."""
    section = re.search(rf"^## `{re.escape(package)}`$(.*?)(?=^## |\Z)", PAGE, re.S | re.M)
    assert section is not None, f"There is no section on {package}."
    row = re.compile(r"^\| \[?`(\w+)`(?:\]\([^)]*\))? \| (.*?) \| (.*?) \|$", re.M)
    return {name: (what, words) for name, what, words in row.findall(section[1])}


@packages
def test_every_public_name_is_on_the_page(package: ModuleType) -> None:
    assert sorted(rows(package.__name__)) == package.__all__


@packages
def test_every_name_has_a_line_and_search_words(package: ModuleType) -> None:
    for name, (what, words) in rows(package.__name__).items():
        assert what.strip() and words.strip(), name
