"""A GGUF file is a policy: what is read from it, on tiny files."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import PreTrainedTokenizerFast

from llmsmc import InputError
from llmsmc.inference import SelfConsistency
from llmsmc.models import LanguageModel, Reasoning, RewardModel
from llmsmc.models.pretrained import memory, precision
from llmsmc.models.pretrained.gguf_header import read_header
from llmsmc.models.pretrained.gguf_network import config_of
from llmsmc.models.pretrained.gguf_tokenizer import tokenizer_of
from llmsmc.models.pretrained.loading import load_plain_tokenizer
from llmsmc.solving.settings import Settings
from tests.models import gguf_files as files
from tests.models.conftest import tokenizer  # noqa: F401 - a fixture

File = Callable[..., Path]

MIXED = {
    "embed_tokens": Kind.Q8_0,
    "lm_head": Kind.Q4_0,
    "q_proj": Kind.Q4_0,
    "v_proj": Kind.F16,
    "down_proj": Kind.Q5_1,
    "up_proj": Kind.BF16,
}


@pytest.fixture
def file(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> File:  # noqa: F811
    """Return a function that writes a file of a tiny model."""

    def written(architecture: str = "qwen2", *, tied: bool = True, **settings: Any) -> Path:
        path = tmp_path / "tiny.gguf"
        model = files.network(architecture, len(tokenizer), tied=tied)
        files.write(path, model, tokenizer, settings.pop("kinds", None), **settings)
        return path

    return written


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", files.NETWORKS)
def test_the_law_is_that_of_the_unpacked_weights(
    architecture: str,
    tied: bool,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,  # noqa: F811
) -> None:
    model: Any = files.network(architecture, len(tokenizer), tied=tied)
    files.write(tmp_path / "m.gguf", model, tokenizer, MIXED)
    policy: Any = LanguageModel.from_pretrained(tmp_path / "m.gguf", device="cpu")
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    loaded: Any = policy.model
    output, embeddings = loaded.lm_head.weight, loaded.get_input_embeddings().weight
    assert (output.data_ptr() == embeddings.data_ptr()) == tied
    ids = torch.tensor([policy.prompt_ids("What is 12 plus 30?", "Add.")])
    with torch.no_grad():
        assert torch.equal(policy.model(ids).logits, model(ids).logits)
    assert policy.context_length == 256


def test_rotations_of_llama_3(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,  # noqa: F811
) -> None:
    rotations = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    sizes: dict[str, Any] = {
        "rope_parameters": rotations,
        "head_dim": 64,
        "max_position_embeddings": 2**17,
    }
    model: Any = files.network("llama", len(tokenizer), **sizes)
    frequencies = model.model.rotary_emb.inv_freq
    plain = 500000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float32) / 64)
    divisors = (plain / frequencies).numpy()
    assert divisors.max() > 7.9
    files.write(tmp_path / "m.gguf", model, tokenizer, tensors={"rope_freqs.weight": divisors})
    policy = LanguageModel.from_pretrained(tmp_path / "m.gguf", device="cpu")
    assert torch.allclose(policy.model.model.rotary_emb.inv_freq, frequencies)
    files.write(tmp_path / "n.gguf", model, tokenizer, tensors={"rope_freqs.weight": divisors**2})
    with pytest.raises(InputError, match="divisors of its own"):
        LanguageModel.from_pretrained(tmp_path / "n.gguf", device="cpu")


def test_the_precision_after_loading(file: File, caplog: pytest.LogCaptureFixture) -> None:
    path = file(kinds=MIXED, metadata={"general.file_type": 15})
    with caplog.at_level(logging.INFO, "llmsmc.models.pretrained"):
        policy = LanguageModel.from_pretrained(path, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in policy.model.parameters()} == {torch.bfloat16}
    assert policy.precision == "bfloat16, read from Q4_K_M"
    assert repr(policy) == f"LanguageModel({str(path)!r}, quantization=None, stored='Q4_K_M')"
    assert "weights in bfloat16 from Q4_K_M; 0.2 MB of weights" in caplog.text


def test_quantised_once_more(file: File) -> None:
    pytest.importorskip("bitsandbytes")
    path = file(kinds={"": Kind.Q8_0})
    policy = LanguageModel.from_pretrained(path, quantization="nf4", device="cpu")
    assert policy.precision == "float32, read from Q8_0, again quantised to nf4"
    assert type(policy.model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    config = Settings(policy=path, quantization="nf4").config()
    assert (config["policy_weights"], config["quantization"]) == ("Q8_0", "nf4")


@pytest.mark.parametrize(
    ("entries", "ends"),
    [
        ({}, {"<|endoftext|>", "<|im_end|>"}),
        ({"eos_token_id": 0}, {"<|endoftext|>", "<|im_end|>"}),
        ({"eot_token_id": 3}, {"<|endoftext|>", "<|im_end|>", "<extra_0>"}),
        ({"eom_token_id": 3}, {"<|endoftext|>", "<|im_end|>", "<extra_0>"}),
    ],
)
def test_what_ends_a_turn(file: File, entries: dict[str, int], ends: set[str]) -> None:
    path = file(metadata={f"tokenizer.ggml.{name}": id for name, id in entries.items()})
    policy = LanguageModel.from_pretrained(path, device="cpu")
    assert set(policy.tokenizer.convert_ids_to_tokens([*policy.eos_ids])) == ends


def test_special_tokens_that_are_drawn_are_seen(file: File) -> None:
    policy = LanguageModel.from_pretrained(file(), device="cpu")
    extra, end, text = 3, policy.eos_ids[0], policy.tokens.encode("It is 7.")
    assert policy.tokens.decode([*text, extra, end]) == "It is 7.<extra_0>"
    assert policy.tokens.decode([extra], after=text) == "<extra_0>"


TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}A:"


def test_a_base_model_needs_a_template(file: File, tmp_path: Path) -> None:
    path = file(without=["tokenizer.chat_template"])
    with pytest.raises(InputError, match=r"no chat template.*--chat-template FILE"):
        LanguageModel.from_pretrained(path, device="cpu")
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    for given in (TEMPLATE, tmp_path / "t.jinja", str(tmp_path / "t.jinja")):
        policy = LanguageModel.from_pretrained(path, device="cpu", chat_template=given)
        assert policy.prompt_ids("What?") == policy.tokens.encode("What?\nA:")
        assert Settings(policy=path, chat_template=given).config()["chat_template"] == TEMPLATE
    for wrong in ("nowhere.jinja", tmp_path, "{{ broken", "{{ 1 // 0 }}"):
        with pytest.raises(InputError, match="chat template"):
            LanguageModel.from_pretrained(path, device="cpu", chat_template=wrong)


@pytest.mark.parametrize(
    "template", [TEMPLATE, "{{ bos_token }}" + TEMPLATE, "<extra_0>" + TEMPLATE]
)
@pytest.mark.parametrize("begins", [True, False])
def test_a_text_begins_once(file: File, template: str, begins: bool) -> None:
    entries = {
        "tokenizer.ggml.bos_token_id": 3,
        "tokenizer.ggml.add_bos_token": begins,
        "tokenizer.chat_template": template,
    }
    policy = LanguageModel.from_pretrained(file(metadata=entries), device="cpu")
    written = template != TEMPLATE
    assert policy.prompt_ids("What?").count(3) == int(begins or written)
    assert policy.tokenizer("What?")["input_ids"].count(3) == int(begins)


def test_pieces_with_scores(file: File, tokenizer: PreTrainedTokenizerFast) -> None:  # noqa: F811
    words = ["\u2581", "a", "b", "c", "ab", "bc", "\u2581ab", "\u2581c"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    scores = [0.0] * 259 + [-9.0, -8.0, -7.0, -6.0, -2.0, -1.0, -3.0, -4.0]
    entries = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [
            2,
            files.CONTROL,
            files.CONTROL,
            *[6] * 256,
            *[1] * len(words),
        ],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{{ messages[0]['content'] }}</s>",
    }
    path = file("llama", tokens=entries)
    made = load_plain_tokenizer(str(path))

    def split(text: str) -> list[str]:
        return list(made.convert_ids_to_tokens(made.encode(text, add_special_tokens=False)))

    assert split("ab c") == ["\u2581ab", "\u2581c"]
    assert split("abc") == ["\u2581", "a", "bc"]  # the pair of the best score is joined first
    assert split("a\n") == ["\u2581", "a", "<0x0A>"]
    assert split("\u00e9")[1:] == ["<0xC3>", "<0xA9>"]
    assert made("ab")["input_ids"][0] == 1
    policy = LanguageModel.from_pretrained(path, device="cpu")
    for text in ("ab c\n\n a", "\u00e9 \U0001f600"):
        assert policy.tokens.decode(policy.tokens.encode(text)) == text
    assert policy.prompt_ids("ab")[0] == 1 and policy.prompt_ids("ab").count(1) == 1
    assert policy.eos_ids == (2,)


@pytest.mark.parametrize(
    ("split", "text", "pieces"),
    [
        ("smollm", "in 1234 is", ["in", "\u0120", "1", "2", "3", "4", "\u0120", "is"]),
        ("qwen2", "in 1234 is", ["in", "\u0120", "1", "2", "3", "4", "\u0120is"]),
        ("llama-bpe", "in 1234 is", ["in", "\u0120", "123", "4", "\u0120is"]),
        ("gpt-2", "in 1234 is", ["in", "\u01201234", "\u0120is"]),
    ],
)
def test_how_texts_are_split(file: File, split: str, text: str, pieces: list[str]) -> None:
    made = tokenizer_of(read_header(file(metadata={"tokenizer.ggml.pre": split})))
    found = made.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    if split == "smollm":  # the digits are split first, the blanks around them after that
        pieces = ["in", "\u0120", "1", "2", "3", "4", "\u0120is"]
    assert [piece for piece, _ in found] == pieces


def test_a_file_is_solved_with(file: File) -> None:
    policy = LanguageModel.from_pretrained(file(), device="cpu")
    model = Reasoning(policy, None, "What is 3 + 4?", max_steps=2, max_tokens_per_step=8)
    posterior = SelfConsistency(num_particles=3).run(model, seed=0)
    for particle in range(3):
        ids = list(posterior.particles[particle].token_ids)
        expected = policy.log_probs(model.prompt_ids, ids).sum()
        assert posterior.particles[particle].log_prob == pytest.approx(float(expected), abs=1e-3)


def test_a_file_is_no_reward(file: File) -> None:
    with pytest.raises(InputError, match="GGUF"):
        RewardModel.from_pretrained(file())


def damaged(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def number(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "little")


HEAD = b"GGUF" + number(3, 4)
NAME = number(1) + b"x"
HOSTILE = {
    "empty": b"",
    "letters": b"GGUX" + bytes(100),
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "version 1": b"GGUF" + number(1, 4) + bytes(100),
    "big-endian": b"GGUF" + (3).to_bytes(4, "big") + bytes(100),
    "only letters": b"GGUF",
    "many tensors": HEAD + number(2**60) + number(0) + bytes(64),
    "many entries": HEAD + number(0) + number(2**60) + bytes(64),
    "a long name": HEAD + number(0) + number(1) + number(2**60) + bytes(64),
    "a long text": HEAD + number(0) + number(1) + NAME + number(8, 4) + number(2**60) + bytes(64),
    "a long list": HEAD
    + number(0)
    + number(1)
    + NAME
    + number(9, 4)
    + number(10, 4)
    + number(2**60)
    + bytes(64),
    "lists of lists": HEAD
    + number(0)
    + number(1)
    + NAME
    + (number(9, 4) + number(9, 4) + number(1)) * 50
    + bytes(64),
    "an unknown type": HEAD + number(0) + number(1) + NAME + number(77, 4) + bytes(64),
    "many dimensions": HEAD + number(1) + number(0) + NAME + number(2**31, 4) + bytes(64),
    "a large tensor": HEAD
    + number(1)
    + number(0)
    + NAME
    + number(2, 4)
    + number(2**40)
    + number(2**40)
    + number(0, 4)
    + number(0)
    + bytes(64),
    "a tensor far away": HEAD
    + number(1)
    + number(0)
    + NAME
    + number(1, 4)
    + number(32)
    + number(0, 4)
    + number(2**63)
    + bytes(64),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.gguf is not a GGUF file that can be read\. Got"):
        LanguageModel.from_pretrained(tmp_path / "bad.gguf", device="cpu")


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.3, 0.6, 0.999])
def test_a_file_that_is_cut_short(file: File, share: float) -> None:
    path = damaged(file(), lambda content: content[: int(len(content) * share)])
    with pytest.raises(InputError, match="cut short|not a GGUF"):
        LanguageModel.from_pretrained(path, device="cpu")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an architecture": ({"metadata": {"general.architecture": "mamba"}}, "'mamba'; accepted: 'lla"),
    "experts": ({"metadata": {"qwen2.expert_count": 8}}, "mixture of experts"),
    "no size": ({"without": ["qwen2.block_count"]}, "qwen2.block_count = nothing"),
    "a text as size": ({"metadata": {"qwen2.block_count": "two"}}, "block_count = 'two'"),
    "many layers": ({"metadata": {"qwen2.block_count": 2**31}}, "block_count = 2147483648"),
    "more layers": ({"metadata": {"qwen2.block_count": 3}}, "no blk.2."),
    "fewer layers": ({"metadata": {"qwen2.block_count": 1}}, "which it does not have"),
    "other heads": ({"metadata": {"qwen2.attention.head_count": 2}}, "of shape"),
    "no heads": ({"metadata": {"qwen2.attention.head_count": 0}}, "head_count = 0"),
    "rotations": (
        {"metadata": {"qwen2.rope.scaling.type": "yarn"}},
        "rotations of the kind 'yarn'",
    ),
    "a tensor less": ({"without": ["blk.1.ffn_up.weight"]}, "no blk.1.ffn_up.weight"),
    "no embeddings": ({"without": ["token_embd.weight"]}, "without token_embd.weight"),
    "a tensor more": (
        {"tensors": {"v.patch.weight": np.zeros((2, 2), dtype=np.float32)}},
        "v.patch.weight, which it does not have",
    ),
    "no tokens": ({"without": ["tokenizer.ggml.tokens"]}, "has no tokenizer"),
    "a kind of tokenizer": ({"metadata": {"tokenizer.ggml.model": "bert"}}, "'bert'"),
    "a split": ({"metadata": {"tokenizer.ggml.pre": "mystery"}}, "'mystery'; accepted: .*qwen2"),
    "an end": ({"metadata": {"tokenizer.ggml.eos_token_id": 10**6}}, "eos_token_id = 1000000"),
    "kinds of tokens": ({"metadata": {"tokenizer.ggml.token_type": [1, 1]}}, "2 kinds"),
    "merges": ({"metadata": {"tokenizer.ggml.merges": ["zz zz"]}}, "merges"),
    "twice a token": ({"metadata": {"tokenizer.ggml.tokens": ["a", "a"]}}, "differ"),
}


@pytest.mark.parametrize(("settings", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_named(file: File, settings: dict[str, Any], said: str) -> None:
    path = file(**settings)
    with pytest.raises(InputError, match=said) as caught:
        LanguageModel.from_pretrained(path, device="cpu")
    assert "Got" in str(caught.value) and "accepted" in str(caught.value)


def test_a_file_without_an_architecture(file: File) -> None:
    key = b"general.architecture"
    path = damaged(file(), lambda content: content.replace(key, key[:-1] + b"x"))
    with pytest.raises(InputError, match="general.architecture = ''; accepted: 'llama'"):
        LanguageModel.from_pretrained(path, device="cpu")


def test_a_tokenizer_of_another_model(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,  # noqa: F811
) -> None:
    files.write(tmp_path / "m.gguf", files.network("qwen2", 64), tokenizer)
    with pytest.raises(InputError, match=f"{len(tokenizer)} tokens for 64 embeddings"):
        LanguageModel.from_pretrained(tmp_path / "m.gguf", device="cpu")


@pytest.mark.parametrize("kind", [250, int(Kind.Q8_1), int(Kind.I32)])
def test_a_quantization_that_cannot_be_read(file: File, kind: int) -> None:
    path = file(kinds={"up_proj": Kind.Q4_1})
    name = b"blk.0.ffn_up.weight"
    content = path.read_bytes()
    at = content.index(name) + len(name) + 4 + 16
    assert int.from_bytes(content[at : at + 4], "little") == Kind.Q4_1
    path.write_bytes(content[:at] + number(kind, 4) + content[at + 4 :])
    with pytest.raises(InputError, match="cannot be read|cut short"):
        LanguageModel.from_pretrained(path, device="cpu")


def test_large_models_are_computed_in_what_the_processor_can(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file()
    config = config_of(read_header(path))
    counted = sum(np.prod(each.shape) for each in read_header(path).tensors.values())
    assert precision.num_weights(config) == pytest.approx(float(counted), rel=0.2)
    for can, least, chosen in [
        (True, 0, "bfloat16"),
        (False, 0, "float32"),
        (True, 10**6, "float32"),
    ]:
        monkeypatch.setattr(precision, "computes_in_bfloat16", lambda can=can: can)
        monkeypatch.setattr(precision, "LARGE", least)
        assert precision.default_dtype(config) == chosen


def test_the_choice_stands_in_the_configuration(
    file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda: True)
    embedded = Settings().config()
    assert embedded["dtype"] is None and "policy_weights" not in embedded
    monkeypatch.setattr(precision, "LARGE", 1000)
    path = file().rename(tmp_path / "other.gguf")  # of which nothing is remembered
    chosen = Settings(policy=path, device="cpu")
    assert chosen.config()["dtype"] == "bfloat16"
    assert chosen.config() == Settings(policy=path, device="cpu", dtype="bfloat16").config() | {
        name: value for name, value in chosen.config().items() if name == "reward_dtype"
    }
    assert Settings(policy=path, device="cpu", dtype="float32").config()["dtype"] == "float32"
    policy = LanguageModel.from_pretrained(path, device="cpu")
    assert policy.precision.startswith("bfloat16")


def test_a_model_that_does_not_fit(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file()
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000)
    monkeypatch.setattr(gguf, "dequantize", lambda *_: pytest.fail("something was unpacked"))
    monkeypatch.setattr(
        "llmsmc.models.pretrained.loading.load_network", lambda *_: pytest.fail("allocated")
    )
    with pytest.raises(InputError, match=r"does not fit into memory. Got .* 0.1 MB that are avail"):
        LanguageModel.from_pretrained(path, device="cpu")


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/a/b", "", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/a/b",
            "memory/",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, line: str, folder: str, names: tuple[str, str, str]
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"1:cpu:/x\n{line}\n")
    limit, used, cached = names
    for group, most in (("", "max"), ("a", "5000"), ("a/b", str(2**63 - 4096))):
        place = tmp_path / "sys/fs/cgroup" / folder / group
        place.mkdir(parents=True, exist_ok=True)
        (place / limit).write_text(f"{most}\n")
        (place / used).write_text("1000\n")
        (place / "memory.stat").write_text(f"anon 5\n{cached} 300\n")
    assert list(memory._left_by_groups(tmp_path)) == [4300]
    assert list(memory._left_by_groups(tmp_path / "nowhere")) == []
    assert 0 < memory.available_memory() < 2**60


def test_the_cache_of_a_token(file: File) -> None:
    config = config_of(read_header(file()))
    need = memory.memory_need(1000, config, torch.float32)
    assert (need.weights, need.peak, need.cache_per_token) == (4000, 4000, 2 * 2 * 2 * 16 * 4)
