"""Double quantization, checkpoints that are quantised already, adapters."""

import importlib.util
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmsmc import InputError
from llmsmc.errors import MissingExtraError
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.pretrained.loading import Placement
from llmsmc.models.rewards.reward_model import RewardModel

QUESTION = "What is 3 + 4?"
IDS = [5, 6, 7, 8]

pytestmark = pytest.mark.filterwarnings("ignore")  # of the kernels, on conversions


def log_probs(model: LanguageModel) -> torch.Tensor:
    return model.log_probs(model.prompt_ids(QUESTION), IDS)


@pytest.mark.parametrize("name", ["nf4", "fp4"])
def test_double_quantization(name: str, wide_policy_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    single = LanguageModel.from_pretrained(wide_policy_folder, name, device="cpu")
    double = LanguageModel.from_pretrained(
        wide_policy_folder, name, device="cpu", double_quantization=True
    )
    assert double.model.config.quantization_config.bnb_4bit_use_double_quant
    assert not single.model.config.quantization_config.bnb_4bit_use_double_quant
    distance = float((log_probs(single) - log_probs(double)).abs().max())
    assert 0 < distance < 0.3


def test_double_quantization_is_of_scales(wide_policy_folder: Path) -> None:
    for name in (None, "none", "int8"):
        with pytest.raises(InputError, match="scales of 4-bit.*accepted: 'nf4', 'fp4'"):
            LanguageModel.from_pretrained(wide_policy_folder, name, double_quantization=True)


def test_a_checkpoint_that_is_quantised_already(wide_policy_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = LanguageModel.from_pretrained(wide_policy_folder, "nf4", device="cpu")
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    loaded = LanguageModel.from_pretrained(tmp_path, device="cpu")
    assert loaded.quantization == "bitsandbytes"
    torch.testing.assert_close(log_probs(loaded), log_probs(model), rtol=0.0, atol=1e-5)
    for name in ("nf4", "int8"):
        with pytest.raises(InputError, match=f"Got quantization='{name}'.*by bitsandbytes already"):
            LanguageModel.from_pretrained(tmp_path, name, device="cpu")


@pytest.mark.parametrize("is_stored", [False, True])
def test_casts_are_not_told_of_at_every_product(
    is_stored: bool,
    wide_policy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("bitsandbytes")
    logger = logging.getLogger("bitsandbytes.autograd._functions")
    caplog.set_level(logging.WARNING, logger=logger.name)
    model = LanguageModel.from_pretrained(wide_policy_folder, "int8", device="cpu")
    if is_stored:
        model.model.save_pretrained(tmp_path)
        model.tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(logger, "filters", [])
    source, name = (tmp_path, None) if is_stored else (wide_policy_folder, "int8")
    log_probs(LanguageModel.from_pretrained(source, name, device="cpu"))
    assert "MatMul8bitLt" not in caplog.text
    logger.warning("MatMul8bitLt: something else")
    assert "something else" in caplog.text


PRE_QUANTISED: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "optimum"),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}, "gptqmodel"),
    ({"quant_method": "torchao", "quant_type": {"default": {}}}, "torchao"),
    ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ({"quant_method": "quanto", "weights": "int8"}, "optimum-quanto"),
]


@pytest.mark.parametrize(("stored", "package"), PRE_QUANTISED, ids=lambda value: str(value)[:30])
def test_a_package_that_is_missing_is_named(
    stored: dict[str, Any], package: str, wide_policy_folder: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec(package.partition("-")[0]) is not None:
        pytest.skip("the package is installed")
    folder = shutil.copytree(wide_policy_folder, tmp_path / "quantised")
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": stored}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"cannot be loaded: .*{package}"):
        LanguageModel.from_pretrained(folder)


def test_a_stored_quantization_by_bitsandbytes_names_its_extra(
    wide_policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    folder = shutil.copytree(wide_policy_folder, tmp_path / "quantised")
    stored = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    config = json.loads((folder / "config.json").read_text()) | stored
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MissingExtraError, match=r"pip install 'llmsmc\[quantization\]'"):
        LanguageModel.from_pretrained(folder)


def test_methods_that_nobody_reads_are_refused(wide_policy_folder: Path, tmp_path: Path) -> None:
    # transformers would read the weights as if they were not quantised.
    folder = shutil.copytree(wide_policy_folder, tmp_path / "quantised")
    stored = {"quantization_config": {"quant_method": "of-tomorrow"}}
    config = json.loads((folder / "config.json").read_text()) | stored
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="of-tomorrow.*gptq"):
        LanguageModel.from_pretrained(folder)


def saved_adapter(model: LanguageModel, folder: Path, kind: str = "lora") -> Path:
    peft = pytest.importorskip("peft")
    network = type(model.model)(model.model.config)
    network.load_state_dict(model.model.state_dict())
    if kind == "lora":
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"])
    else:
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    wrapped = peft.get_peft_model(network, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    wrapped.save_pretrained(folder)
    return folder


def test_an_adapter_is_merged(wide_policy_folder: Path, tmp_path: Path) -> None:
    plain = LanguageModel.from_pretrained(wide_policy_folder, device="cpu")
    folder = saved_adapter(plain, tmp_path / "adapter")
    adapted = LanguageModel.from_pretrained(wide_policy_folder, device="cpu", adapter=folder)
    assert {type(m).__name__ for m in adapted.model.modules()} == {
        type(m).__name__ for m in plain.model.modules()
    }
    low_rank = load_file(folder / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    product = (
        low_rank[f"base_model.model.{name}.lora_B.weight"]
        @ low_rank[f"base_model.model.{name}.lora_A.weight"]
    )
    before = plain.model.get_parameter(f"{name}.weight")
    expected = before + 8 / 4 * product
    torch.testing.assert_close(adapted.model.get_submodule(name).weight, expected)
    assert not torch.allclose(log_probs(adapted), log_probs(plain), atol=1e-2)


def test_an_adapter_beside_quantised_weights(wide_policy_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    plain = LanguageModel.from_pretrained(wide_policy_folder, device="cpu")
    folder = saved_adapter(plain, tmp_path / "adapter")
    merged = LanguageModel.from_pretrained(wide_policy_folder, device="cpu", adapter=str(folder))
    quantised = LanguageModel.from_pretrained(wide_policy_folder, "nf4", "cpu", adapter=folder)
    bare = LanguageModel.from_pretrained(wide_policy_folder, "nf4", "cpu")
    kinds = {type(module).__name__ for module in quantised.model.modules()}
    assert "Linear4bit" in kinds  # in the layers that it changes, too
    near = float((log_probs(quantised) - log_probs(merged)).abs().mean())
    far = float((log_probs(bare) - log_probs(merged)).abs().mean())
    assert near < far
    assert type(quantised.model) is type(bare.model)


def test_adapters_that_are_refused(wide_policy_folder: Path, tmp_path: Path) -> None:
    plain = LanguageModel.from_pretrained(wide_policy_folder, device="cpu")
    folder = saved_adapter(plain, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match="no such adapter.*adapter_model.safetensors"):
        LanguageModel.from_pretrained(wide_policy_folder, adapter=folder)
    prompts = saved_adapter(plain, tmp_path / "prompts", kind="prompt")
    with pytest.raises(InputError, match="changes weights.*PROMPT_TUNING"):
        LanguageModel.from_pretrained(wide_policy_folder, adapter=prompts)
    with pytest.raises(InputError, match="no such adapter"):
        LanguageModel.from_pretrained(wide_policy_folder, adapter=tmp_path / "nowhere")


def test_adapters_need_peft(wide_policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"llmsmc\[peft\]"):
        LanguageModel.from_pretrained(wide_policy_folder, adapter="someone/adapter")


def test_a_revision_reaches_every_file(
    wide_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[object]()
    load = Placement.load

    def spied(self: Placement, cls: Any, source: str, **settings: Any) -> Any:
        asked.append(settings.get("revision"))
        return load(self, cls, source, **settings)

    monkeypatch.setattr(Placement, "load", spied)
    LanguageModel.from_pretrained(wide_policy_folder, revision="main")
    assert asked == ["main"]


def test_rewards_that_are_quantised_already(wide_reward_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = RewardModel.from_pretrained(wide_reward_folder, device="cpu", quantization="nf4")
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    loaded = RewardModel.from_pretrained(tmp_path, device="cpu")
    steps = ["3 + 4 = 7.", "So \\boxed{7}."]
    assert loaded.score(QUESTION, steps) == pytest.approx(model.score(QUESTION, steps), abs=1e-4)
    with pytest.raises(InputError, match="quantised by bitsandbytes already"):
        RewardModel.from_pretrained(tmp_path, device="cpu", quantization="int8")
