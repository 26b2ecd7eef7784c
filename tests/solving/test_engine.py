"""What computes a policy: llama.cpp where it can, transformers where the network is needed."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from llmsmc.errors import InputError
from llmsmc.solving import loading
from llmsmc.solving.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that begins as a GGUF file does, which is all that names are held against."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture(params=[True, False])
def is_there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the bindings can be found."""
    found = importlib.util.find_spec("json") if request.param else None
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: found if name == "llama_cpp" else find_spec(name, *rest),
    )
    return bool(request.param)


def test_a_file_is_computed_by_llama_cpp_where_it_is_installed(file: Path, is_there: bool) -> None:
    plain = Settings(policy=file, reward="own-log-prob")
    assert plain.computed_by == ("llama-cpp" if is_there else "transformers")
    assert Settings(policy=file, engine="transformers").computed_by == "transformers"
    assert Settings(policy=file, engine="llama-cpp").computed_by == "llama-cpp"
    assert Settings().computed_by == "transformers"


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "bfloat16"},
        {"quantization": "nf4"},
        {"adapter": "adapter"},
        {"device": "cuda"},
        {"device_map": "auto"},
        {"reward": "judge", "aggregation": "last"},
        {"reward": "ratio:minimath-policy", "aggregation": "last"},
    ],
    ids=str,
)
def test_what_needs_the_network_is_computed_by_transformers(
    file: Path, is_there: bool, settings: dict[str, Any]
) -> None:
    assert Settings(policy=file, **settings).computed_by == "transformers"


@pytest.mark.parametrize("name", ["dtype", "quantization", "adapter", "policy_revision"])
def test_settings_without_effect_are_refused(file: Path, name: str) -> None:
    settings: dict[str, Any] = {name: {"dtype": "bfloat16", "quantization": "nf4"}.get(name, "x")}
    with pytest.raises(InputError, match=f"{name} has no effect on a model that is run by llama"):
        Settings(policy=file, engine="llama-cpp", **settings)


def test_other_engines_and_other_files_are_refused() -> None:
    with pytest.raises(InputError, match="engine"):
        Settings(engine="onnx")
    with pytest.raises(InputError, match="computes GGUF files"):
        loading.load_policy(Settings(engine="llama-cpp"))
    with pytest.raises(InputError, match="engine has no effect on a model that is run by a server"):
        Settings(policy="http://localhost:1/v1", engine="llama-cpp")
