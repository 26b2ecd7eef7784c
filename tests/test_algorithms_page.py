"""The page of the algorithms says of each what the code says."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from llmsmc import inference
from llmsmc.inference import Algorithm, TemperedSMC
from llmsmc.registry import (
    AGGREGATIONS,
    ALGORITHMS,
    CONVENTIONS,
    DATASETS,
    RESAMPLERS,
    Registry,
    homes,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "algorithms.md"
README = ROOT / "README.md"
EXPORTED = {name: getattr(inference, name) for name in inference.__all__}
CLASSES = [
    value
    for value in EXPORTED.values()
    if isinstance(value, type) and issubclass(value, Algorithm) and value is not Algorithm
]
NAMES_ON_THE_COMMAND_LINE = {ALGORITHMS[name]: name for name in ALGORITHMS}

each_algorithm = pytest.mark.parametrize("algorithm", CLASSES, ids=lambda cls: cls.__name__)


def section(heading: str) -> str:
    """What is below a heading, on one line."""
    found = re.search(rf"^### `{heading}`$(.*?)(?=^##|\Z)", PAGE.read_text(), re.S | re.M)
    assert found is not None, f"There is no section on {heading}."
    return " ".join(found[1].split())


def items(text: str, name: str) -> list[str]:
    return re.findall(rf"- {name}: (.*?)(?= - [A-Z][a-z ]+: |$)", text)


def references(docstring: str) -> list[str]:
    """The references at the end of a docstring, each on one line."""
    found = re.search(r"^References?:(.*?)(?=\n\n|\Z)", docstring, re.S | re.M)
    if found is None:
        return []
    listed = re.split(r"\n\s+\d+\. ", found[1])
    return [" ".join(text.split()) for text in listed if text.strip()]


def guarantees(algorithm: Any) -> set[str]:
    if algorithm is TemperedSMC:  # as its settings are
        return {algorithm(4).guarantee, algorithm(4, ladder=(1.0,)).guarantee}
    return {algorithm.guarantee}


@each_algorithm
def test_guarantees(algorithm: Any) -> None:
    (stated,) = items(section(algorithm.__name__), "Guarantee")
    assert set(re.findall(r"\*\*(.+?)\*\*", stated)) == guarantees(algorithm)
    for page in (PAGE, README):  # each has a table whose last column is the guarantee
        row = re.search(rf"^\| \[?`{algorithm.__name__}`.*$", page.read_text(), re.M)
        assert row is not None, page
        assert set(re.split(r", or ", row[0].rsplit("|", 2)[1].strip())) == guarantees(algorithm)


@each_algorithm
def test_names_on_the_command_line(algorithm: type) -> None:
    name = NAMES_ON_THE_COMMAND_LINE.get(algorithm)
    assert items(section(algorithm.__name__), "Command line") == ([f"`{name}`"] if name else [])


@each_algorithm
def test_references(algorithm: type) -> None:
    module = sys.modules[algorithm.__module__]
    stated = items(section(algorithm.__name__), "Reference")
    assert stated == references(inspect.getdoc(module) or "")


def test_references_of_resamplers_and_moves() -> None:
    page = " ".join(PAGE.read_text().split())
    others = [value for value in EXPORTED.values() if value not in CLASSES]
    modules = {value.__module__ for value in others} | set(homes(RESAMPLERS))
    for module in modules | {"llmsmc.inference.resampling.optimal"}:
        for reference in references(inspect.getdoc(sys.modules[module]) or ""):
            assert reference in page
    protocols = {"Algorithm", "Move", "Moved", "Resampled", "Resampler", "Scheme"}
    assert [name for name in EXPORTED if name not in protocols and f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("registry", "page"),
    [
        (RESAMPLERS, "algorithms.md"),
        (AGGREGATIONS, "concepts.md"),
        (CONVENTIONS, "reward_models.md"),
        (DATASETS, "your_own_parts.md"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.group,
)
def test_every_built_in_name_is_on_a_page(registry: Registry, page: str) -> None:
    text = PAGE.with_name(page).read_text()
    assert [name for name in registry if not re.search(rf"[`\"]{name}[`\"]", text)] == []
