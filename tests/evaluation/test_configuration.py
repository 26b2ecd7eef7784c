"""Configurations that outlive the code: new settings, new defaults, old folders."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from llmsmc.evaluation import configuration as module
from llmsmc.evaluation.configuration import Configuration, configuration
from llmsmc.evaluation.datasets import Dataset
from llmsmc.evaluation.folder import EvaluationFolder, folder_of
from llmsmc.inference import (
    Adaptive,
    Algorithm,
    BestOfN,
    BootstrapFilter,
    Greedy,
    TemperedSMC,
    stratified,
)
from llmsmc.models.text.thinking import Thinking
from llmsmc.solving.settings import Settings
from llmsmc.storage.json_files import dumps

DATASET = Dataset("minimath-500", "minimath-500", ())


def of(settings: Settings, algorithm: Algorithm, seed: int = 0, **together: int) -> Configuration:
    return configuration(settings, algorithm, DATASET, seed, together)


THINKS = Settings(thinking=Thinking("</think>", max_tokens=7))

NAMES: list[tuple[Configuration, str]] = [
    (of(Settings(), BootstrapFilter(32)), "bootstrap-4424dbf97b26541f"),
    (of(Settings(), BootstrapFilter(32), 1), "bootstrap-0ea6e33ef79b2f60"),
    (of(Settings(), BootstrapFilter(8, Adaptive(stratified, 0.7))), "bootstrap-c500143829696d29"),
    (of(Settings(temperature=0.8, aggregation="min"), BestOfN(4)), "best-of-n-9ca92f6d4ed9a604"),
    (of(Settings(quantization="nf4", max_steps=12, step=16), Greedy()), "greedy-945a9b0b90cb1689"),
    (of(THINKS, TemperedSMC(8, (0.5, 1.0))), "tempered-3ec39ca02a1ab564"),
    (of(Settings(), BootstrapFilter(32), in_flight=8), "bootstrap-873074cd4f682163"),
]


@pytest.mark.parametrize(("config", "name"), NAMES)
def test_names_stay_as_they_are(config: Configuration, name: str) -> None:
    """A name that changes is an evaluation that its owner runs again.

    Where a default has been changed on purpose, `FIRST_DEFAULTS` has to have the first one.
    """
    assert config.folder_name == f"minimath-500-{name}"


def test_names_differ_where_anything_does() -> None:
    assert len({config.hash for config, _ in NAMES}) == len(NAMES)


@dataclass(frozen=True)
class LaterSettings(Settings):
    """Settings as a later version may have them."""

    patience: int = 3


@dataclass(frozen=True)
class LaterThinking(Thinking):
    """Thinking as a later version may have it."""

    aloud: bool = False


def later(filter_class: type[BootstrapFilter]) -> type[BootstrapFilter]:
    @dataclass(frozen=True)
    class BootstrapFilter(filter_class):  # type: ignore[valid-type, misc]
        """The filter as a later version may have it."""

        warm: bool = False
        others: tuple[int, ...] = field(default=(1, 2))

    return BootstrapFilter


def test_a_new_setting_changes_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    thinking = Thinking("</think>", max_tokens=7)
    before = of(Settings(temperature=0.5, thinking=thinking), BootstrapFilter(8))
    EvaluationFolder(tmp_path / "run", before)
    newer = later(BootstrapFilter)
    monkeypatch.setattr("llmsmc.inference.filters.bootstrap_filter.BootstrapFilter", newer)
    monkeypatch.setattr("llmsmc.solving.settings.Settings", LaterSettings)
    monkeypatch.setattr("llmsmc.models.text.thinking.Thinking", LaterThinking)
    thinking = LaterThinking("</think>", max_tokens=7)
    settings = LaterSettings(temperature=0.5, thinking=thinking)
    after = of(settings, newer(8))
    assert after.values["patience"] == 3 and after.values["algorithm"]["warm"] is False
    assert after.values["thinking"]["aloud"] is False
    assert after.folder_name == before.folder_name
    EvaluationFolder(tmp_path / "run", after)
    for changed, said in (
        (of(replace(settings, patience=4), newer(8)), "patience 4, which is 3 there"),
        (of(settings, newer(8, warm=True)), "algorithm.warm true, which is false there"),  # type: ignore[call-arg]
    ):
        assert changed.folder_name != before.folder_name
        assert changed.changes_from(json.loads(dumps(before.values))) == [said]


def test_a_default_that_changes_leaves_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(Settings(), BootstrapFilter(8))

    def default_config(self: Settings) -> dict[str, Any]:
        return {**Settings().config(), "temperature": 0.6}

    monkeypatch.setattr(Settings, "default_config", default_config)
    assert of(Settings(), BootstrapFilter(8)).hash != before.hash  # what the table is there for
    monkeypatch.setitem(module.FIRST_DEFAULTS, "temperature", 1.0)
    assert of(Settings(), BootstrapFilter(8)).hash == before.hash
    assert of(Settings(temperature=0.6), BootstrapFilter(8)).hash != before.hash


def test_a_folder_of_another_name_is_found(tmp_path: Path) -> None:
    config, other = NAMES[0][0], NAMES[1][0]
    (tmp_path / "minimath-500-bootstrap-0").mkdir()
    (tmp_path / "minimath-500-bootstrap-0" / "manifest.json").write_text("{")
    assert folder_of(tmp_path, config) == tmp_path / config.folder_name
    EvaluationFolder(tmp_path / "minimath-500-bootstrap-1", config)
    EvaluationFolder(tmp_path / "minimath-500-bootstrap-2", other)
    assert folder_of(tmp_path, config).name == "minimath-500-bootstrap-1"
    assert folder_of(tmp_path, other).name == "minimath-500-bootstrap-2"
    EvaluationFolder(tmp_path / config.folder_name, config)
    assert folder_of(tmp_path, config) == tmp_path / config.folder_name


@pytest.mark.parametrize("block_size", [64, 25])
def test_a_folder_with_an_entry_of_an_earlier_version(tmp_path: Path, block_size: int) -> None:
    """Evaluations ran whole blocks again, of so many questions, and ablations of others."""
    before = of(Settings(), BootstrapFilter(32), in_flight=8, block_size=block_size)
    path = tmp_path / "minimath-500-bootstrap-641e9226ba8dffec"  # as it was named
    EvaluationFolder(path, before)
    manifest = (path / "manifest.json").read_bytes()
    assert json.loads(manifest)["config"]["block_size"] == block_size
    now = of(Settings(), BootstrapFilter(32), in_flight=8)
    assert before.folder_name == now.folder_name != path.name
    assert folder_of(tmp_path, now) == path
    for config in (now, before):
        EvaluationFolder(path, config)
    assert (path / "manifest.json").read_bytes() == manifest
    other = of(Settings(), BootstrapFilter(32), in_flight=4)
    assert other.changes_from(json.loads(manifest)["config"]) == ["in_flight 4, which is 8 there"]
