"""Sets on the hub, as the package `datasets` would hand them over."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmsmc.errors import InputError, MissingExtraError
from llmsmc.evaluation.datasets import Example, load
from llmsmc.evaluation.hub_datasets import HubSet
from llmsmc.registry import DATASETS

HUB_SETS = {name: DATASETS[name] for name in DATASETS if isinstance(DATASETS[name], HubSet)}
ROWS: dict[str, dict[str, Any]] = {
    "math500": {
        **{"problem": "b?", "solution": r"\boxed{5}", "answer": "5", "subject": "Algebra"},
        **{"level": 2, "unique_id": "test/algebra/1.json"},
    },
    "aime24": {"id": 60, "problem": "b?", "solution": "", "answer": "025", "url": "", "year": ""},
    "aime25": {"problem": "b?", "answer": "70", "id": "0"},
    "gsm8k": {"question": "b?", "answer": "She has 2 * 500 = <<2*500=1000>>1000.\n#### 1,000"},
}
EXAMPLES = {
    "math500": Example("test/algebra/1.json", "b?", "5", 2, "Algebra"),
    "aime24": Example("60", "b?", "025"),
    "aime25": Example("0", "b?", "70"),
    "gsm8k": Example("gsm8k/1", "b?", "1,000"),
}


def rows(name: str) -> list[dict[str, Any]]:
    """Return as many rows as the set has, each with an id of its own where rows have ids."""
    ids = [
        {key: f"{value}{n or ''}" for key, value in ROWS[name].items() if "id" in key}
        for n in range(HUB_SETS[name].num_examples)
    ]
    return [ROWS[name] | each for each in ids]


def hub(monkeypatch: pytest.MonkeyPatch, load_dataset: Any) -> None:
    package = ModuleType("datasets")
    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)


@pytest.mark.parametrize("name", HUB_SETS)
def test_fields_of_the_sets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, asked = HUB_SETS[name], []

    def load_dataset(repository: str, configuration: str | None, split: str) -> Any:
        asked.append((repository, configuration, split))
        return rows(name)

    hub(monkeypatch, load_dataset)
    found = load(name)
    assert asked == [(place.repository, place.configuration, place.split)]
    assert found.name == name and len(found.examples) == place.num_examples
    assert found.examples[0] == EXAMPLES[name]
    assert load(name, limit=2).examples == found.examples[:2]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llmsmc\[eval\]'"):
        load("math500")


def test_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach\nthe hub")

    hub(monkeypatch, load_dataset)
    with pytest.raises(InputError) as caught:
        load("aime24")
    said = str(caught.value)
    assert "(ConnectionError: Couldn't reach the hub). Got 'aime24'" in said
    assert "--dataset-file" in said and "\n" not in said


def test_another_number_of_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, lambda *_, **__: [ROWS["gsm8k"]])
    with pytest.raises(InputError, match="gsm8k has 1319 questions. Got 1 from openai/gsm8k"):
        load("gsm8k")


@pytest.mark.parametrize("name", HUB_SETS)
def test_by_the_package_itself(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with the name of the repository stands in for it."""
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    place = HUB_SETS[name]
    folder = tmp_path / place.repository
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows(name))
    (folder / f"{place.split}.jsonl").write_text(lines)
    if place.configuration is not None:
        (folder / "README.md").write_text(
            f"---\nconfigs:\n- config_name: {place.configuration}\n  data_files:\n"
            f"  - split: {place.split}\n    path: {place.split}.jsonl\n---\n"
        )
    found = load(name)
    assert len(found.examples) == place.num_examples
    assert found.examples[0].answer == EXAMPLES[name].answer


def test_by_the_package_without_a_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be read from the hub .*--dataset-file"):
        load("aime24")
