"""Checkpoints that are not whole, of another network, or of sizes that nobody has."""

import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from llmsmc import InputError
from llmsmc.models import GenerativeJudge, ImplicitReward, LanguageModel, RewardModel
from llmsmc.models.pretrained import checkpoints
from llmsmc.models.pretrained.checkpoints import (
    StoredTensors,
    TensorsError,
    read_headers,
    require_same_tensors,
    require_sane,
    require_stored,
)
from llmsmc.models.pretrained.loading import Placement
from tests.models.architectures import save_policy
from tests.models.conftest import saved
from tests.models.pretrained.test_quantization import saved_adapter
from tests.models.tiny_rewards import FORMULAS, model_of, tokenizers_of

QUESTION = "What is 3 + 4?"
CONFIGS: Any = CONFIG_MAPPING  # of whose types transformers says too much
CAUSAL: Any = AutoModelForCausalLM  # and of these too little

Tensors = dict[str, Tensor]
Change = Callable[[Tensors], Tensors]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="bitsandbytes")
        yield


def changed(folder: Path, target: Path, change: Change, **config: object) -> Path:
    """Copy a checkpoint with other tensors, and other numbers in its configuration."""
    shutil.copytree(folder, target)
    tensors = {
        name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(change(tensors), target / "model.safetensors", metadata={"format": "pt"})
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return target


def without(*parts: str) -> Change:
    return lambda tensors: {n: t for n, t in tensors.items() if not any(p in n for p in parts)}


def prefixed(prefix: str) -> Change:
    return lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def beside(**shapes: tuple[int, ...]) -> Change:
    return lambda tensors: (
        tensors | {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}
    )


INCOMPLETE: dict[str, tuple[Change, str]] = {
    "a tensor": (without("layers.0.mlp.up_proj"), r"no model.layers.0.mlp.up_proj.weight;"),
    "a bias": (without("layers.1.self_attn.q_proj.bias"), "q_proj.bias"),
    "a layer": (without("layers.1."), r"no model.layers.1.\S+, \S+, \S+ and 9 more;"),
    "the norm": (without("model.norm"), "no model.norm.weight"),
    "the embeddings": (without("embed_tokens"), "no model.embed_tokens.weight"),
    "all": (lambda tensors: {}, "no .* and .* more"),
    "all but one": (lambda tensors: {"model.norm.weight": tensors["model.norm.weight"]}, "no "),
    "compiled": (prefixed("_orig_mod."), "names that begin with '_orig_mod.'"),
    "in parallel": (prefixed("module."), "names that begin with 'module.'"),
    "of a trainer": (prefixed("pretrained_model."), "begin with 'pretrained_model.'"),
    "of an adapter": (prefixed("base_model.model."), "begin with 'base_model.model.'"),
    "a shape": (
        lambda tensors: tensors | {"model.norm.weight": torch.ones(3)},
        r"model.norm.weight of shape \[3\] in place of \[32\]",
    ),
    "turned": (
        lambda tensors: (
            tensors | {n: t.T.contiguous() for n, t in tensors.items() if "down_proj" in n}
        ),
        r"down_proj.weight of shape \[64, 32\] in place of \[32, 64\]",
    ),
    "one layer more": (
        lambda tensors: (
            tensors
            | {n.replace(".1.", ".2."): t.clone() for n, t in tensors.items() if ".layers.1." in n}
        ),
        "model.layers.2.* and 9 more, which it does not have",
    ),
    "norms of queries": (
        beside(model__layers__0__self_attn__q_norm__weight=(8,)),
        "q_norm.weight, which it does not have",
    ),
    "an adapter inside": (
        beside(model__layers__0__self_attn__q_proj__lora_A__weight=(2, 32)),
        "lora_A.weight, which it does not have",
    ),
    "a layer of another name": (
        lambda tensors: {n.replace("mlp.up_proj", "mlp.w3"): t for n, t in tensors.items()},
        "no model.layers.0.mlp.up_proj.weight.*mlp.w3.weight",
    ),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_policy_is_whole(name: str, policy_folder: Path, tmp_path: Path) -> None:
    change, message = INCOMPLETE[name]
    folder = changed(policy_folder, tmp_path / "policy", change)
    with pytest.raises(TensorsError, match=f"(?s)The tensors of .*policy are not .*{message}"):
        LanguageModel.from_pretrained(folder)


def test_the_head_of_a_policy(policy_folder: Path, tmp_path: Path) -> None:
    folder = changed(policy_folder, tmp_path / "policy", without("lm_head"))
    with pytest.raises(TensorsError, match="no lm_head.weight"):
        LanguageModel.from_pretrained(folder)
    names = changed(policy_folder, tmp_path / "critic", beside(score__weight=(1, 32)))
    with pytest.raises(TensorsError, match="score.weight, which it does not have"):
        LanguageModel.from_pretrained(names)


@pytest.mark.parametrize("convention", FORMULAS)
def test_a_reward_is_whole(
    convention: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    own = tokenizers_of(tokenizer)[convention]
    model = RewardModel(model_of(convention, own), own, convention)
    plain = saved(model, tmp_path / "plain")
    expected = pytest.approx(model.score(QUESTION, ["3"]), abs=1e-6)
    assert RewardModel.from_pretrained(plain, convention).score(QUESTION, ["3"]) == expected
    names = read_headers([plain / "model.safetensors"]).shapes
    (head,) = {name.partition(".")[0] for name in names} - {"model"}
    kind = "not a process reward model" if head != "lm_head" else "are not those of"
    for number, (parts, message) in enumerate(
        [
            (("layers.0.mlp.up_proj",), "no model.layers.0.mlp.up_proj.weight"),
            ((f"{head}.",), f"{kind}.* no {head}."),
            (("",), kind),
        ]
    ):
        folder = changed(plain, tmp_path / str(number), without(*parts))
        with pytest.raises(InputError, match=message):
            RewardModel.from_pretrained(folder, convention)
    folder = changed(plain, tmp_path / "prefix", prefixed("_orig_mod."))
    with pytest.raises(InputError, match="names that begin with '_orig_mod.'"):
        RewardModel.from_pretrained(folder, convention)
    extra = changed(plain, tmp_path / "extra", beside(model__layers__0__mlp__gate__weight=(3, 3)))
    with pytest.raises(TensorsError, match="mlp.gate.weight, which it does not have"):
        RewardModel.from_pretrained(extra, convention)


def test_what_is_made_of_policies(policy_folder: Path, tmp_path: Path) -> None:
    folder = changed(policy_folder, tmp_path / "policy", without("layers.0.mlp.up_proj"))
    for pair in ((folder, policy_folder), (policy_folder, folder)):
        with pytest.raises(TensorsError, match="up_proj"):
            ImplicitReward.from_pretrained(*pair)
    with pytest.raises(TensorsError, match="up_proj"):
        GenerativeJudge(LanguageModel.from_pretrained(folder))


@pytest.mark.parametrize(
    ("quantization", "parts"),
    [
        ("int8", ("layers.0.mlp.up_proj",)),
        ("nf4", ("layers.0.mlp.up_proj",)),
        ("fp4", ("layers.1.",)),
        ("nf4", ("model.norm",)),
    ],
)
def test_a_policy_is_whole_before_it_is_quantised(
    quantization: str, parts: tuple[str, ...], wide_policy_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = changed(wide_policy_folder, tmp_path / "policy", without(*parts))
    with pytest.raises(TensorsError, match=f"no .*{parts[0]}"):
        LanguageModel.from_pretrained(folder, quantization, "cpu")


@pytest.mark.parametrize(
    ("quantization", "part"), [("int8", "up_proj.weight$"), ("nf4", "up_proj")]
)
@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])  # ERROR on the command line
@pytest.mark.filterwarnings("ignore")
def test_a_quantised_checkpoint_is_whole(
    quantization: str,
    part: str,
    level: int,
    wide_policy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("bitsandbytes")
    stored = saved(
        LanguageModel.from_pretrained(wide_policy_folder, quantization, "cpu"), tmp_path / "plain"
    )
    assert LanguageModel.from_pretrained(stored, device="cpu").quantization == "bitsandbytes"

    def change(tensors: Tensors) -> Tensors:
        dropped = part.removesuffix("$")
        return {n: t for n, t in tensors.items() if not (n.endswith(dropped) or dropped + "." in n)}

    folder = changed(stored, tmp_path / "policy", change)
    monkeypatch.setattr(logging.getLogger("transformers"), "level", level)
    with pytest.raises(TensorsError, match="up_proj"):
        LanguageModel.from_pretrained(folder, device="cpu")


@pytest.mark.filterwarnings("ignore")
def test_plain_weights_that_are_said_to_be_quantised(
    wide_policy_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    quantized = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    folder = changed(
        wide_policy_folder, tmp_path / "policy", lambda t: t, quantization_config=quantized
    )
    with pytest.raises(InputError, match="cannot run with quantization='bitsandbytes'"):
        LanguageModel.from_pretrained(folder, device="cpu")


ADAPTERS: dict[str, tuple[Change, str]] = {
    "all": (lambda tensors: {}, "no base_model.* and 5 more"),
    "a tensor": (
        without("layers.0.self_attn.q_proj.lora_B"),
        "no base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight;",
    ),
    "the second factor": (without("lora_B"), "no base_model.*lora_B.weight and 1 more"),
    "a layer": (without("layers.1."), "no base_model.*layers.1"),
    "prefix": (prefixed("model."), "names that begin with 'model.'"),
    "another": (
        lambda tensors: {n.replace("q_proj", "k_proj"): t for n, t in tensors.items()},
        "k_proj.lora_A.weight, .*which it does not have",
    ),
    "shape": (
        lambda tensors: {n: t[:2] if "lora_A" in n else t for n, t in tensors.items()},
        r"lora_A.weight of shape \[2, 64\] in place of \[4, 64\]",
    ),
}


@pytest.mark.filterwarnings("ignore")  # of peft itself, while it saves
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_whole(name: str, wide_policy_folder: Path, tmp_path: Path) -> None:
    change, message = ADAPTERS[name]
    plain = LanguageModel.from_pretrained(wide_policy_folder, device="cpu")
    folder = saved_adapter(plain, tmp_path / "adapter")
    tensors = load_file(folder / "adapter_model.safetensors")
    made = {n: t.contiguous() for n, t in change(tensors).items()}
    save_file(made, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TensorsError, match=f"are not those of an adapter.*{message}"):
        LanguageModel.from_pretrained(wide_policy_folder, device="cpu", adapter=folder)


def adapter_of(folder: Path, target: Path, **settings: Any) -> tuple[Path, Tensor]:
    """Save an adapter of the policy in a folder; return it and logits under it."""
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(
        LanguageModel.from_pretrained(folder, device="cpu").model, peft.LoraConfig(r=4, **settings)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        logits: Tensor = wrapped.eval()(torch.tensor([[3, 4, 5]])).logits
    wrapped.save_pretrained(target)
    return target, logits


@pytest.mark.filterwarnings("ignore")
def test_other_parts_of_an_adapter(wide_policy_folder: Path, tmp_path: Path) -> None:
    folder, logits = adapter_of(
        wide_policy_folder,
        tmp_path / "head",
        target_modules=["q_proj"],
        modules_to_save=["lm_head"],
    )
    adapted = LanguageModel.from_pretrained(wide_policy_folder, device="cpu", adapter=folder)
    torch.testing.assert_close(adapted.model(torch.tensor([[3, 4, 5]])).logits, logits)
    tensors = load_file(folder / "adapter_model.safetensors")
    (head,) = (name for name in tensors if "lm_head" in name)
    embeddings = "base_model.model.model.embed_tokens.weight"
    for change, message in (
        (without("lm_head")(tensors), f"no {head};"),
        (tensors | {embeddings: torch.zeros(500, 64)}, rf"{embeddings} of shape \[500, 64\] in"),
    ):
        save_file(change, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(TensorsError, match=f"not those of an adapter of this.*{message}"):
            LanguageModel.from_pretrained(wide_policy_folder, device="cpu", adapter=folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_of_one_side_of_tied_embeddings(
    target: str, wide_policy_folder: Path, tmp_path: Path
) -> None:
    """Merged into the weight that both sides share, it would act on the other side as well."""
    tied = changed(
        wide_policy_folder, tmp_path / "tied", without("lm_head"), tie_word_embeddings=True
    )
    folder, logits = adapter_of(tied, tmp_path / "adapter", target_modules=[target, "q_proj"])
    adapted = LanguageModel.from_pretrained(tied, device="cpu", adapter=folder)
    torch.testing.assert_close(adapted.model(torch.tensor([[3, 4, 5]])).logits, logits)


@pytest.mark.filterwarnings("ignore")
def test_adapters_of_hostile_ranks(wide_policy_folder: Path, tmp_path: Path) -> None:
    plain = LanguageModel.from_pretrained(wide_policy_folder, device="cpu")
    folder = saved_adapter(plain, tmp_path / "adapter")
    path = folder / "adapter_config.json"
    given = json.loads(path.read_text())
    for wrong in (
        {"r": 10**12},
        {"rank_pattern": {"q_proj": 10**9}},
        {"r": 10**6},
        {"layers_to_transform": [10**9], "layers_pattern": "layers"},
        {"layer_replication": [[0, 10**9]]},
        {"layer_replication": [[0, 2]] * 2000},
        {"init_lora_weights": "pissa_niter_1000000000"},
        {"peft_type": "VBLORA", "num_vectors": 60_000, "vector_length": 60_000},
    ):
        path.write_text(json.dumps(given | wrong))
        with pytest.raises(InputError, match=r"asks for a larger (adapter.*Got \w+|network)"):
            LanguageModel.from_pretrained(wide_policy_folder, device="cpu", adapter=folder)


def test_an_adapter_that_nobody_has_named(policy_folder: Path, tmp_path: Path) -> None:
    folder = changed(policy_folder, tmp_path / "policy", lambda tensors: tensors)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="adapter_config.json beside config.json"):
        LanguageModel.from_pretrained(folder)


WHOLE: dict[str, Change] = {
    "as it is": lambda tensors: tensors,
    "frequencies": beside(model__layers__0__self_attn__rotary_emb__inv_freq=(4,)),
    "masks": beside(model__layers__0__attn__masked_bias=(), model__position_ids=(1, 8)),
    "masks of CodeGen": beside(transformer__h__0__attn__causal_mask=(1, 1, 8, 8)),
    "further tokens": beside(
        mtp__layers__0__mlp__up_proj__weight=(4, 4), model__mtp__norm__weight=(4,)
    ),
    "further tokens of a layer": beside(model__layers__1__mtp__weight=(4, 4)),
    "pictures": beside(
        vision_tower__layers__0__weight=(4, 4),
        multi_modal_projector__linear_1__weight=(4, 4),
        model__visual__blocks__0__weight=(4, 4),
    ),
    "sounds": beside(audio_tower__conv1__weight=(4, 4), embed_audio__weight=(4, 4)),
    "a critic": beside(v_head__summary__weight=(1, 32), v_head__summary__bias=(1,)),
    "a stack without prefix": lambda tensors: {
        name.removeprefix("model."): tensor for name, tensor in tensors.items()
    },
    "a prefix twice": prefixed("model."),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_lies_beside_the_stack_is_left_out(
    name: str,
    policy: LanguageModel,
    policy_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = changed(policy_folder, tmp_path / "policy", WHOLE[name])
    loaded = LanguageModel.from_pretrained(folder)
    prompt = policy.prompt_ids(QUESTION)
    assert torch.equal(loaded.log_probs(prompt, [5, 6]), policy.log_probs(prompt, [5, 6]))
    assert capfd.readouterr() == ("", "")


def test_a_layer_behind_the_last_that_predicts_further_tokens(
    policy_folder: Path, tmp_path: Path
) -> None:
    extra = beside(model__layers__2__eh_proj__weight=(4, 4))
    LanguageModel.from_pretrained(
        changed(policy_folder, tmp_path / "one", extra, num_nextn_predict_layers=1)
    )
    with pytest.raises(TensorsError, match="layers.2.eh_proj.weight, which it does not have"):
        LanguageModel.from_pretrained(changed(policy_folder, tmp_path / "none", extra))


@pytest.mark.parametrize("name", ["qwen", "skywork", "trl"])
def test_a_reward_that_keeps_the_head_of_its_language_model(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    own = tokenizers_of(tokenizer)[name]
    plain = saved(RewardModel(model_of(name, own), own, name), tmp_path / "plain")
    folder = changed(plain, tmp_path / "reward", beside(lm_head__weight=(len(own), 32)))
    RewardModel.from_pretrained(folder, name)


def test_tied_embeddings_are_stored_once(
    policy: LanguageModel, policy_folder: Path, tmp_path: Path
) -> None:
    tied = changed(policy_folder, tmp_path / "tied", without("lm_head"), tie_word_embeddings=True)
    model: Any = LanguageModel.from_pretrained(tied).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    torch.testing.assert_close(
        model.get_input_embeddings().weight, policy.model.get_input_embeddings().weight
    )
    neither = changed(
        policy_folder, tmp_path / "none", without("lm_head", "embed"), tie_word_embeddings=True
    )
    with pytest.raises(TensorsError, match="no .*embed_tokens.weight"):
        LanguageModel.from_pretrained(neither)


def test_shards(policy: LanguageModel, policy_folder: Path, tmp_path: Path) -> None:
    folder = changed(policy_folder, tmp_path / "policy", lambda tensors: tensors)
    (folder / "model.safetensors").unlink()
    policy.model.save_pretrained(folder, max_shard_size="40KB")
    LanguageModel.from_pretrained(folder)
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())
    kept = dict(names["weight_map"])
    first = next(name for name in kept if "layers.0" in name)
    shard = load_file(folder / kept[first])
    save_file({n: t for n, t in shard.items() if n != first}, folder / kept[first])
    with pytest.raises(InputError, match=first):
        LanguageModel.from_pretrained(folder)
    for wrong in ("pytorch_model.bin", "../elsewhere/model.safetensors"):
        index.write_text(json.dumps(names | {"weight_map": kept | {first: wrong}}))
        with pytest.raises(InputError, match="beside model.safetensors.index.json only"):
            LanguageModel.from_pretrained(folder)


def test_many_names_are_shortened() -> None:
    names = [f"a.{n}" for n in range(1000)]
    with pytest.raises(TensorsError) as raised:
        require_same_tensors("folder", "a network", names, names, [(n, (1,), (2,)) for n in names])
    assert len(str(raised.value)) < 500 and raised.value.lacking[:2] == ("a.0", "a.1")


# Sizes


HOSTILE: dict[str, dict[str, Any]] = {
    "layers": {"num_hidden_layers": 10**9},
    "more layers than tensors": {"num_hidden_layers": 1000},
    "vocabulary": {"vocab_size": 10**12},
    "a large vocabulary": {"vocab_size": 10**7},
    "width": {"hidden_size": 10**12},
    "a large width": {"hidden_size": 2**20},
    "inner width": {"intermediate_size": 10**12},
    "a large inner width": {"intermediate_size": 10**7},
    "heads": {"num_attention_heads": 10**9, "head_dim": 8},
    "a thousand heads": {"num_attention_heads": 10**4, "num_key_value_heads": 10**4},
    "width of heads": {"head_dim": 10**9},
    "positions": {"max_position_embeddings": 10**12},
    "labels": {"num_labels": 10**9},
    "window": {"sliding_window": 10**15, "use_sliding_window": True},
    "a number in words": {"num_hidden_layers": 1e9},
    "a number of digits": {"vocab_size": 10**4000},
    "of another kind": {"num_experts": 10**9},
    "inside": {"text_config": {"num_hidden_layers": 10**9}},
    "everything": {"num_hidden_layers": 1000, "hidden_size": 10**6, "vocab_size": 10**7},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_configurations_of_hostile_sizes(
    name: str, policy_folder: Path, reward_folder: Path, tmp_path: Path
) -> None:
    sizes = {"layer_types": None} | HOSTILE[name]
    pairs: list[tuple[Path, Any]] = [(policy_folder, LanguageModel)]
    if name in ("layers", "a large width"):
        pairs.append((reward_folder, RewardModel))
    for folder, cls in pairs:
        wrong = changed(folder, tmp_path / cls.__name__, lambda tensors: tensors, **sizes)
        begun = time.process_time()
        with pytest.raises(
            InputError, match="is of no network that can be run|than its files hold"
        ):
            cls.from_pretrained(wrong)
        assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"num_hidden_layers": 10**9},
        {"n_layer": 10**9, "num_layers": 10**9},
        {"n_positions": 2**30, "vocab_size": 2**23},
    ],
)
def test_configurations_of_other_architectures(
    name: str, sizes: dict[str, int], tmp_path: Path
) -> None:
    plain = save_policy(name, tmp_path / "plain")
    wrong = changed(plain, tmp_path / "policy", lambda tensors: tensors, **sizes)
    with pytest.raises(InputError, match="is of no network that can be run|than its files hold"):
        LanguageModel.from_pretrained(wrong)


TINY: dict[str, tuple[dict[str, Any], list[tuple[str, Any]]]] = {  # what else is looped over
    "gemma3n_text": (
        {"altup_num_inputs": 2, "laurel_rank": 4, "hidden_size_per_layer_input": 4}
        | {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": 64, "layer_types": None}
        | {"activation_sparsity_pattern": None},
        [("altup_num_inputs", 10**5), ("altup_num_inputs", 2**14), ("laurel_rank", 10**9)],
    ),
    "gpt_neo": (
        {"attention_types": [[["global", "local"], 1]]},
        [
            ("attention_types", [[["global"], 2**24]]),
            ("attention_types", [[["global"], 10**5]]),
            ("attention_types", [[["global"], 1]] * 2**15),
            ("num_layers", 10**5),
        ],
    ),
    "qwen3_moe": (
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        [
            ("num_experts", 10**5),
            ("moe_intermediate_size", 2**22),
            ("num_experts_per_tok", 10**5),
            ("layer_types", ["full_attention"] * 10**5),
        ],
    ),
    "gpt_oss": (
        {"num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": None},
        [("num_local_experts", 2**16), ("layer_types", ["full_attention"] * 2**15)],
    ),
    "falcon": ({"new_decoder_architecture": True}, [("ffn_hidden_size", 10**8)]),
    "mamba": (
        {"state_size": 4, "time_step_rank": 4},
        [("time_step_rank", 2**30), ("conv_kernel", 2**20), ("state_size", 10**6)],
    ),
    "bloom": ({}, [("n_layer", 10**5), ("pretraining_tp", 10**6)]),
    "opt": ({"word_embed_proj_dim": 32}, [("ffn_dim", 2**21), ("word_embed_proj_dim", 2**20)]),
}


@pytest.mark.parametrize("name", TINY)
def test_whatever_is_looped_over(name: str, tmp_path: Path) -> None:
    sizes, hostile = TINY[name]
    names = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"]
    values = [64, 32, 48, 2, 4, 2, 8, 64]
    names += ["num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"]
    given = dict(zip(names, values, strict=True)) | sizes
    plain = CONFIGS[name]().to_dict()
    given = {k: v for k, v in given.items() if k in plain or k in names[:5]}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = CAUSAL.from_config(CONFIGS[name](**given, **ids))
    folder = tmp_path / "plain"
    model.save_pretrained(folder)
    Placement(device="cpu").load(CAUSAL, str(folder))
    for number, (key, value) in enumerate(hostile):
        wrong = changed(folder, tmp_path / f"{number}", lambda tensors: tensors, **{key: value})
        begun = time.process_time()
        with pytest.raises(
            InputError, match="is of no network that can be run|than its files hold"
        ):
            Placement(device="cpu").load(CAUSAL, str(wrong))
        assert time.process_time() - begun < 5


PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 3.1 405B": (
        "llama",
        {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126}
        | {"num_attention_heads": 128, "num_key_value_heads": 8, "vocab_size": 128256}
        | {"max_position_embeddings": 131072},
    ),
    "Qwen3 235B": (
        "qwen3_moe",
        {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 94}
        | {"num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128}
        | {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536}
        | {"max_position_embeddings": 40960, "max_window_layers": 94},
    ),
    "DeepSeek V3": ("deepseek_v3", {}),
    "Kimi K2": (
        "deepseek_v3",
        {"n_routed_experts": 384, "num_attention_heads": 64, "vocab_size": 163840}
        | {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
        | {"max_position_embeddings": 131072},
    ),
    "gpt-oss 120B": ("gpt_oss", {}),
    "Gemma 3n E4B": ("gemma3n_text", {}),
    "Llama 4 Scout": (
        "llama4_text",
        {"max_position_embeddings": 10485760, "num_local_experts": 16, "vocab_size": 202048},
    ),
    "Qwen2.5 1M": (
        "qwen2",
        {"max_position_embeddings": 1010000, "sliding_window": 1010000, "vocab_size": 152064}
        | {"dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192}},
    ),
    "Mistral": ("mistral", {"rope_theta": 1e9, "sliding_window": None}),
    "GPT-2": ("gpt2", {}),
    "GPT-Neo": ("gpt_neo", {}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, sizes = PUBLISHED[name]
    config = CONFIGS[kind](**sizes)
    with torch.device("meta"):
        network = CAUSAL.from_config(config)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    stored = StoredTensors(shapes, 0)
    monkeypatch.setattr(checkpoints, "stored_tensors", lambda *_, **__: stored)
    require_sane(name, json.loads(config.to_json_string(use_diff=False)) | sizes)
    require_stored(name, config, CAUSAL.from_config)


def test_published_notes() -> None:
    notes = {"audio_config": {"gradient_clipping": 1e10, "sampling_rate": 16000}}
    require_sane("Gemma 3n", notes | {"max_pixels": 12845056, "global_step": 10**7})


def test_numbers_that_are_no_sizes(policy_folder: Path, tmp_path: Path) -> None:
    folder = changed(
        policy_folder,
        tmp_path / "policy",
        lambda tensors: tensors,
        rope_theta=10**11,
        training_tokens=15 * 10**12,
        num_parameters=10**11,
        max_window_layers=80,
        model_max_length=10**30,
        max_position_embeddings=10**9,
        pad_token_id=0,
    )
    assert LanguageModel.from_pretrained(folder).context_length == 10**9


def test_loading_draws_no_random_numbers(policy_folder: Path) -> None:
    state = torch.get_rng_state()
    LanguageModel.from_pretrained(policy_folder)
    assert torch.equal(state, torch.get_rng_state())


# Tokens


@pytest.mark.parametrize("special", [True, False])
def test_ids_beyond_the_embeddings(
    special: bool, policy: LanguageModel, reward: RewardModel, tmp_path: Path
) -> None:
    for model, cls in ((policy, LanguageModel), (reward, RewardModel)):
        folder = saved(model, tmp_path / cls.__name__)
        more = type(model.tokenizer).from_pretrained(folder)
        more.add_tokens(["<one>", "<more>"], special_tokens=special)
        more.save_pretrained(folder)
        size = len(model.tokenizer)
        message = f"id {size + 1} of the token '<more>' for {size} embeddings"
        with pytest.raises(InputError, match=message):
            cls.from_pretrained(folder)
        with pytest.raises(InputError, match=message):
            cls(model.model, more)


def test_the_tokenizer_of_a_larger_model(tmp_path: Path, policy_folder: Path) -> None:
    small = changed(
        policy_folder,
        tmp_path / "policy",
        lambda tensors: (
            tensors | {n: tensors[n][:100] for n in ("lm_head.weight", "model.embed_tokens.weight")}
        ),
        vocab_size=100,
    )
    with pytest.raises(InputError, match="for 100 embeddings; accepted: ids up to 99"):
        LanguageModel.from_pretrained(small)
    with pytest.raises(InputError, match="for 100 embeddings"):
        ImplicitReward.from_pretrained(policy_folder, small)
