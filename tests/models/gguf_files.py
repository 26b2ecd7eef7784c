"""GGUF files of tiny random models, written by the package gguf."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

NETWORKS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
NORMAL, CONTROL = 1, 3

Change = Callable[[GGUFWriter], None]


def network(
    architecture: str, vocab_size: int, *, tied: bool = False, seed: int = 0, **sizes: Any
) -> PreTrainedModel:
    """Return a tiny random network, in which contexts matter."""
    config_class, network_class = NETWORKS[architecture]
    torch.manual_seed(seed)
    rotations = {"rope_type": "default", "rope_theta": 5000.0}
    settings = SIZES | {"rope_parameters": rotations, "initializer_range": 0.3} | sizes
    config = config_class(vocab_size=vocab_size, tie_word_embeddings=tied, **settings)
    model: PreTrainedModel = network_class(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    return model


def kind_of(name: str, shape: Sequence[int], kinds: Mapping[str, Kind]) -> Kind:
    """Return the precision of a tensor: the one given for a part of its name, for matrices."""
    if len(shape) == 1:
        return Kind.F32
    return next((kind for part, kind in kinds.items() if part in name), Kind.F32)


def write(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    kinds: Mapping[str, Kind] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    tokens: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    tensors: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Write a model to a GGUF file, and round its weights to what the file holds.

    Args:
        path: the file.
        model: the network, whose weights become those of the file.
        tokenizer: its tokenizer, byte-level.
        kinds: part of a name in the network -> precision of such matrices.
        metadata: further entries, or others: texts, truths and numbers.
        tokens: the entries of a tokenizer in place of those of `tokenizer`.
        without: names of entries and tensors to be left out.
        tensors: further tensors.
    """
    config: Any = model.config
    architecture = config.model_type
    writer = GGUFWriter(path, architecture)
    entries: dict[str, Any] = {
        f"{architecture}.block_count": config.num_hidden_layers,
        f"{architecture}.context_length": config.max_position_embeddings,
        f"{architecture}.embedding_length": config.hidden_size,
        f"{architecture}.feed_forward_length": config.intermediate_size,
        f"{architecture}.attention.head_count": config.num_attention_heads,
        f"{architecture}.attention.head_count_kv": config.num_key_value_heads,
        f"{architecture}.attention.key_length": config.head_dim,
        f"{architecture}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{architecture}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        **(entries_of(tokenizer) if tokens is None else tokens),
        **(metadata or {}),
    }
    for name, value in entries.items():
        if name not in without:
            add(writer, name, value)
    known = gguf.get_tensor_name_map(
        next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == architecture),
        config.num_hidden_layers,
    )
    state = model.state_dict()
    for name, tensor in state.items():
        stored = str(known.get_name(name, try_suffixes=(".weight", ".bias")))
        if stored in without or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        kind = kind_of(name, tensor.shape, kinds or {})
        rows = tensor.numpy()
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = config.num_attention_heads
            rows = in_pairs(rows, heads if ".q_proj." in name else config.num_key_value_heads)
        packed = gguf.quantize(rows, kind)
        writer.add_tensor(stored, packed, raw_dtype=kind)
        read = gguf.dequantize(packed, kind)
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = config.num_attention_heads
            read = in_halves(read, heads if ".q_proj." in name else config.num_key_value_heads)
        tensor.copy_(torch.from_numpy(np.array(read)))
    for name, rows in (tensors or {}).items():
        writer.add_tensor(name, rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def in_pairs(rows: Any, heads: int) -> Any:
    """Return the rows of each head in the order in which llama.cpp rotates them."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def in_halves(rows: Any, heads: int) -> Any:
    """Return the rows of each head in the order in which transformers rotates them."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))


def entries_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return a byte-level tokenizer as a file has it."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    ids = tokenizer.get_vocab()
    special = {token.content for token in tokenizer.added_tokens_decoder.values()}
    ordered = sorted(ids, key=lambda token: ids[token])
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": ordered,
        "tokenizer.ggml.token_type": [CONTROL if t in special else NORMAL for t in ordered],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in described["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def add(writer: GGUFWriter, name: str, value: Any) -> None:
    """Add an entry of metadata of whatever type."""
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    else:
        writer.add_array(name, value)
