"""Loading: folders, names, quantization, and what is said when it fails."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from llmsmc import InputError
from llmsmc.errors import MissingExtraError
from llmsmc.models.caches.rows import CacheRows
from llmsmc.models.policies.decoding.requests import StepRequest
from llmsmc.models.policies.language_model import LanguageModel
from llmsmc.models.pretrained.loading import EMBEDDED, load_tokenizer, loading_errors, resolve
from llmsmc.models.pretrained.quantization import quantization_config
from llmsmc.models.rewards.reward_model import RewardModel
from llmsmc.models.text.stopping import TokenCount

QUESTION = "What is 3 + 4?"
STEPS = ["3 + 4 = 7.", "So \\boxed{7}."]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def copied(folder: Path, target: Path, **config: object) -> Path:
    shutil.copytree(folder, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return target


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_file_of_the_tokenizer_has_the_last_word(name: str) -> None:
    # Not so for `AutoTokenizer`, which splits texts as the class of the architecture does.
    text = "Solve 2x + 16 = 380.\n\nThe answer is \\boxed{182}."
    file = Tokenizer.from_file(str(Path(resolve(name)) / "tokenizer.json"))
    assert load_tokenizer(resolve(name)).encode(text, add_special_tokens=False) == (
        file.encode(text, add_special_tokens=False).ids
    )


def test_policy_from_a_folder(policy: LanguageModel, policy_folder: Path) -> None:
    loaded = LanguageModel.from_pretrained(policy_folder)
    prompt = loaded.prompt_ids(QUESTION)
    assert prompt == policy.prompt_ids(QUESTION)
    assert torch.equal(loaded.log_probs(prompt, [5, 6]), policy.log_probs(prompt, [5, 6]))
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert str(policy_folder) in repr(loaded)


def test_reward_from_a_folder(reward: RewardModel, reward_folder: Path) -> None:
    loaded = RewardModel.from_pretrained(str(reward_folder))
    assert loaded.score(QUESTION, STEPS) == reward.score(QUESTION, STEPS)
    assert str(reward_folder) in repr(loaded)
    names = load_file(reward_folder / "model.safetensors")
    assert {"score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias"} <= set(names)
    assert "model.layers.0.self_attn.q_proj.weight" in names
    config = json.loads((reward_folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForProcessRewardModel"]


def test_a_checkpoint_with_remote_code_is_loaded_without_it(
    reward: RewardModel, reward_folder: Path, tmp_path: Path
) -> None:
    """The layout of Qwen2.5-Math-PRM as it was published for transformers 4."""
    code = "raise RuntimeError('remote code was run')"
    folder = copied(
        reward_folder,
        tmp_path / "prm",
        architectures=["Qwen2ForProcessRewardModel"],
        auto_map={
            "AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig",
            "AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel",
        },
        model_type="qwen2",
        torch_dtype="float32",
        rope_theta=10000.0,
        transformers_version="4.37.0",
        use_cache=False,
    )
    config = json.loads((folder / "config.json").read_text())
    for new in ("dtype", "rope_parameters", "layer_types"):
        config.pop(new, None)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_qwen2_rm.py").write_text(code)
    (folder / "modeling_qwen2_rm.py").write_text(code)
    loaded = RewardModel.from_pretrained(folder)
    assert loaded.score(QUESTION, STEPS) == pytest.approx(reward.score(QUESTION, STEPS), abs=1e-6)


def test_a_wrong_number_of_labels(reward_folder: Path, tmp_path: Path) -> None:
    folder = copied(reward_folder, tmp_path / "one", num_labels=1)
    with pytest.raises(InputError, match="Got 1 labels"):
        RewardModel.from_pretrained(folder)
    folder = copied(reward_folder, tmp_path / "shape")
    weights = load_file(folder / "model.safetensors")
    weights["score.2.weight"] = weights["score.2.weight"][:1].clone()
    weights["score.2.bias"] = weights["score.2.bias"][:1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="cannot be loaded|not a process reward model"):
        RewardModel.from_pretrained(folder)


def test_a_policy_is_not_a_reward_model(policy_folder: Path) -> None:
    with pytest.raises(InputError, match="not a process reward model.*score"):
        RewardModel.from_pretrained(policy_folder, convention="qwen")
    with pytest.raises(InputError, match="cannot be told.*Qwen2ForCausalLM.*'qwen'"):
        RewardModel.from_pretrained(policy_folder)


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "a/b/c", "", "no spaces here", "nobody/no-such-model"]
)
def test_models_that_do_not_exist(name: str) -> None:
    with pytest.raises(InputError, match="(?s)Got.*accepted: minimath-policy"):
        LanguageModel.from_pretrained(name)
    with pytest.raises(InputError, match="accepted"):
        RewardModel.from_pretrained(name)


def test_what_looks_like_a_path_is_not_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "qwen-small").mkdir(parents=True)
    (tmp_path / "models" / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    for name in ("models/tniy.gguf", "tiny.gguf", "models/a/b", "~/tiny", "weights.safetensors"):
        with pytest.raises(InputError, match="There is no such model"):
            resolve(name)
    with pytest.raises(InputError, match=r"in its cache\)\. There is models/qwen-small\."):
        resolve("models/qwen-smal")
    assert resolve("models/tiny.gguf") == "models/tiny.gguf"
    assert resolve("qwen/qwen-small") == "qwen/qwen-small"  # there is no folder qwen
    (tmp_path / "notes").write_text("Buy milk.")
    with pytest.raises(InputError, match="This file is no model"):
        resolve("notes")
    (tmp_path / "no_suffix").write_bytes(b"GGUF and so on")
    assert resolve("no_suffix") == "no_suffix"
    with pytest.raises(InputError, match="There is minimath-policy"):
        LanguageModel.from_pretrained("minimath-polcy")


def test_what_other_libraries_say_is_kept_to_its_end() -> None:
    for reason in ("because " * 100 + "so do this", "because " * 10_000 + "so do this"):
        with pytest.raises(InputError, match="because because.*so do this. Got") as caught:
            with loading_errors("nowhere"):
                raise ValueError(reason)
        assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", -1), ("hidden_size", "many")])
def test_what_others_say_is_a_sentence(
    key: str, value: object, policy_folder: Path, tmp_path: Path
) -> None:
    folder = copied(policy_folder, tmp_path / "wrong", **{key: value})
    with pytest.raises(InputError, match=r"cannot be loaded: .*[^.]\. Got '/"):
        LanguageModel.from_pretrained(folder)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        LanguageModel.from_pretrained(tmp_path)


def test_only_safetensors_are_read(policy_folder: Path, tmp_path: Path) -> None:
    folder = copied(policy_folder, tmp_path / "pickle")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        LanguageModel.from_pretrained(folder)


def test_embedded_names_are_folders_of_the_package() -> None:
    for name in EMBEDDED:
        folder = Path(resolve(name))
        assert folder.name == name
        assert {"config.json", "model.safetensors", "README.md", "losses.jsonl"} <= {
            path.name for path in folder.iterdir()
        }


@pytest.mark.parametrize("name", ["int8", "nf4", "fp4"])
@pytest.mark.filterwarnings("ignore")  # of the kernels, on conversions
def test_quantization(name: str, wide_policy_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    exact = LanguageModel.from_pretrained(wide_policy_folder, device="cpu")
    loaded = LanguageModel.from_pretrained(wide_policy_folder, quantization=name, device="cpu")
    assert loaded.quantization == name
    kinds = {type(module).__name__ for module in loaded.model.modules()}
    assert ("Linear8bitLt" if name == "int8" else "Linear4bit") in kinds
    prompt = loaded.prompt_ids(QUESTION)
    error = loaded.log_probs(prompt, [5, 6]) - exact.log_probs(prompt, [5, 6])
    assert 0 < float(error.abs().max()) < 1.5
    # The cached loop runs on it, with the log-probabilities of this very model.
    drawn, _ = loaded.sample_step(
        StepRequest(
            prompt,
            torch.zeros((2, 0), dtype=torch.long),
            torch.zeros(2, dtype=torch.long),
            CacheRows.none(2),
            rule=TokenCount(4),
            max_tokens=4,
            temperature=0.0,
        )
    )
    expected = loaded.log_probs(prompt, drawn.token_ids[0].tolist())
    assert torch.allclose(drawn.log_probs[0], expected, atol=0.1)


@pytest.mark.parametrize("name", ["int8", "nf4"])
@pytest.mark.filterwarnings("ignore")
def test_quantized_reward_keeps_its_head(name: str, wide_reward_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    loaded = RewardModel.from_pretrained(wide_reward_folder, quantization=name, device="cpu")
    assert type(loaded.model.score[0]) is torch.nn.Linear
    kind = type(loaded.model.model.layers[0].mlp.up_proj).__name__
    assert kind == ("Linear8bitLt" if name == "int8" else "Linear4bit")
    exact = RewardModel.from_pretrained(wide_reward_folder, device="cpu")
    assert loaded.score(QUESTION, STEPS) == pytest.approx(exact.score(QUESTION, STEPS), abs=0.3)


@pytest.mark.filterwarnings("ignore")
def test_quantized_kernels_that_do_not_fit(
    policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")

    def fail(*arguments: object, **settings: object) -> None:
        raise AssertionError("N must be divisible by block_n")

    monkeypatch.setattr("bitsandbytes.nn.Linear4bit.forward", fail)
    with pytest.raises(InputError, match="'nf4'.*divisible"):
        LanguageModel.from_pretrained(policy_folder, quantization="nf4", device="cpu")


def test_loading_prints_nothing(policy_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    LanguageModel.from_pretrained(policy_folder)
    assert capfd.readouterr() == ("", "")


def test_settings_that_are_refused(policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'int3'.*'nf4'"):
        LanguageModel.from_pretrained(policy_folder, quantization="int3")
    with pytest.raises(InputError, match="device"):
        LanguageModel.from_pretrained(policy_folder, device="toaster")
    with pytest.raises(InputError, match="dtype"):
        LanguageModel.from_pretrained(policy_folder, dtype="int7")
    assert LanguageModel.from_pretrained(policy_folder, quantization="none").quantization is None
    half = LanguageModel.from_pretrained(policy_folder, dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llmsmc\[quantization\]'"):
        quantization_config("nf4", torch.float32)


def test_layers_that_keep_no_list_of_keys(policy: LanguageModel) -> None:
    from llmsmc.models.pretrained.loading import context_length

    config = type(policy.model.config)(**policy.model.config.to_dict())
    config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(InputError, match="linear_attention"):
        context_length(config)
    config.layer_types = ["sliding_attention", "full_attention"]
    config.sliding_window = 128
    assert context_length(config) == config.max_position_embeddings
