"""The network of a GGUF file: its configuration, and its weights in a precision of one's choice.

The names of tensors are those of the package `gguf`, which also unpacks the blocks of a quantised
tensor. Tensors are unpacked one after the other, a few rows at a time, straight into the precision
that is asked for, so that the peak is the network itself and a few rows.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from llmsmc.errors import InputError
from llmsmc.models.pretrained.checkpoints import few_parts, require_same_tensors
from llmsmc.models.pretrained.gguf_header import GgufHeader, StoredTensor
from llmsmc.models.pretrained.gguf_tokenizer import end_ids, tokens_of

_CONFIGS: Final[dict[str, type[PreTrainedConfig]]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
"""Architecture of a file -> class of configurations."""

_INTERLEAVED: Final = ("llama",)
"""Architectures in whose files the rows of queries and keys stand in pairs that rotate together."""

_ROTATIONS: Final = "rope_freqs.weight"  # divisors of the frequencies, of Llama 3.1 and later
_UNPACKED: Final = 2**22  # numbers at a time
_MAX_LAYERS: Final = 2**10
_FILE_TYPES: Final = {kind.value: kind.name.removeprefix("MOSTLY_") for kind in gguf.LlamaFileType}


def quantization_of(header: GgufHeader) -> str:
    """Return the name of the precision of the weights of a file, such as "Q4_K_M"."""
    named = header.metadata.get("general.file_type")
    if isinstance(named, int) and named in _FILE_TYPES:
        return _FILE_TYPES[named].removeprefix("ALL_")
    kinds = Counter(_kind_name(each) for each in header.tensors.values() if len(each.shape) > 1)
    return kinds.most_common(1)[0][0] if kinds else "F32"


def config_of(header: GgufHeader) -> PreTrainedConfig:
    """Return the configuration of the network of a file.

    Raises:
        InputError: the architecture is not one that is read, or a number is missing or wrong.
    """
    if header.architecture not in _CONFIGS:
        raise InputError(
            f"The architecture of {header.path} is not one that is read. Got "
            f"general.architecture = {header.architecture!r}; accepted: "
            f"{', '.join(map(repr, _CONFIGS))}."
        )
    if header.of_architecture("expert_count", 0):
        raise _no_network(header, "a mixture of experts", "dense networks")
    hidden, heads = _size(header, "embedding_length"), _size(header, "attention.head_count")
    head_size = _size(header, "attention.key_length", hidden // heads)
    if _size(header, "rope.dimension_count", head_size) != head_size:
        raise _no_network(header, "rotations of a part of each head", "rotations of whole heads")
    end = end_ids(header)
    settings: dict[str, Any] = {
        "vocab_size": _vocabulary(header),
        "hidden_size": hidden,
        "intermediate_size": _size(header, "feed_forward_length"),
        "num_hidden_layers": _size(header, "block_count", limit=_MAX_LAYERS),
        "num_attention_heads": heads,
        "num_key_value_heads": _size(header, "attention.head_count_kv", heads),
        "head_dim": head_size,
        "max_position_embeddings": _size(header, "context_length", limit=2**31),
        "rms_norm_eps": _number(header, "attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rotations(header, head_size),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "bos_token_id": header.of_tokenizer("bos_token_id"),
        "eos_token_id": list(end) or None,
        "pad_token_id": header.of_tokenizer("padding_token_id"),
    }
    if header.architecture == "llama":
        settings["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
        settings["mlp_bias"] = "blk.0.ffn_up.bias" in header.tensors
    if header.architecture == "qwen3":
        settings["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
    config = _CONFIGS[header.architecture](**settings)
    config.name_or_path = str(header.path)
    return config


def load_network(
    header: GgufHeader,
    config: PreTrainedConfig,
    make: Callable[[Any], nn.Module],
    dtype: torch.dtype,
    **settings: Any,
) -> tuple[Any, dict[str, Any]]:
    """Return the network of a file with its weights, and the report of transformers on the loading.

    Args:
        header: of the file.
        config: its configuration.
        make: makes the network of a configuration; it is made on the device "meta", on which
            nothing is allocated.
        dtype: the precision of the weights.
        settings: of `from_pretrained`, such as the quantization.

    Raises:
        TensorsError: the file has other tensors, or other shapes.
        InputError: a quantization cannot be read, or the configuration is of a larger network than
            the file can hold.
    """
    require_readable(header)
    with torch.device("meta"), few_parts(str(header.path), len(header.tensors)):
        network: Any = make(config)
    names = _stored_names(header, network)
    weights = dict(tensors_of(header, config, names, dtype))
    model, report = type(network).from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=dtype,
        output_loading_info=True,
        **settings,
    )
    return model, report


def _stored_names(header: GgufHeader, network: Any) -> dict[str, str]:
    """Return, for each tensor of the network, the name of the tensor of the file that it is.

    Raises:
        TensorsError: the file has other tensors, or other shapes.
    """
    architecture = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == header.architecture)
    known = gguf.get_tensor_name_map(architecture, network.config.num_hidden_layers)
    tied = set(network.all_tied_weights_keys)
    names, missing, mismatched = dict[str, str](), list[str](), list[Any]()
    for name, tensor in network.state_dict().items():
        if name in tied:
            continue
        names[name] = known.get_name(name, try_suffixes=(".weight", ".bias")) or name
        stored = header.tensors.get(names[name])
        if stored is None:
            missing.append(names[name])
        elif stored.shape != tuple(tensor.shape):
            mismatched.append((names[name], stored.shape, tensor.shape))
    unexpected = set(header.tensors) - set(names.values()) - {_ROTATIONS}
    require_same_tensors(
        str(header.path), type(network).__name__, missing, sorted(unexpected), mismatched
    )
    return names


def require_readable(header: GgufHeader) -> None:
    """Raise `InputError` if a tensor is quantised in a way that cannot be unpacked."""
    first = {tensor.kind: name for name, tensor in reversed([*header.tensors.items()])}
    for kind, name in first.items():
        try:
            block, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            gguf.dequantize(np.zeros((1, size), dtype=np.uint8), GGMLQuantizationType(kind))
        except (ValueError, KeyError, NotImplementedError) as error:
            raise InputError(
                f"A quantization in {header.path} cannot be read. Got the tensor {name!r} of the "
                f"type {_kind_name(header.tensors[name])}; accepted: types that the package gguf "
                f"unpacks (F32, F16, BF16, Q8_0, Q4_K, Q6_K, ...)."
            ) from error


def tensors_of(
    header: GgufHeader, config: Any, names: dict[str, str], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the network with their names, unpacked to a precision.

    `names` has, for each name in the network, the one in the file.
    """
    data = np.memmap(header.path, mode="r")
    for name, stored_name in names.items():
        tensor = _unpacked(data, header.tensors[stored_name], dtype)
        if header.architecture in _INTERLEAVED:
            if ".attn_q." in stored_name:
                tensor = _in_halves(tensor, config.num_attention_heads)
            elif ".attn_k." in stored_name:
                tensor = _in_halves(tensor, config.num_key_value_heads)
        yield name, tensor


def _unpacked(data: Any, stored: StoredTensor, dtype: torch.dtype) -> Tensor:
    kind = GGMLQuantizationType(stored.kind)
    num_rows = int(np.prod(stored.shape[:-1], dtype=np.int64))
    packed = data[stored.start : stored.start + stored.num_bytes].reshape(num_rows, -1)
    tensor = torch.empty((num_rows, stored.shape[-1]), dtype=dtype)
    at_a_time = max(1, _UNPACKED // max(1, stored.shape[-1]))
    for start in range(0, num_rows, at_a_time):
        rows = gguf.dequantize(np.array(packed[start : start + at_a_time]), kind)
        tensor[start : start + at_a_time] = torch.from_numpy(rows)
    return tensor.view(stored.shape)


def _in_halves(tensor: Tensor, num_heads: int) -> Tensor:
    """Return the rows of each head with the first of all pairs before the second ones."""
    pairs = tensor.view(num_heads, -1, 2, *tensor.shape[1:])
    return pairs.transpose(1, 2).reshape(tensor.shape)


def _rotations(header: GgufHeader, head_size: int) -> dict[str, Any]:
    base = _number(header, "rope.freq_base", 10000.0)
    kind = header.of_architecture("rope.scaling.type", "none")
    if kind == "linear":
        factor = _number(header, "rope.scaling.factor")
        return {"rope_type": "linear", "rope_theta": base, "factor": factor}
    if kind != "none":
        raise _no_network(header, f"rotations of the kind {kind!r}", "'none', 'linear'")
    if _ROTATIONS not in header.tensors:
        return {"rope_type": "default", "rope_theta": base}
    return _rotations_of_llama(header, base, head_size)


def _rotations_of_llama(header: GgufHeader, base: float, head_size: int) -> dict[str, Any]:
    """Return the settings from which the divisors of the frequencies in a file were made."""
    data = np.memmap(header.path, mode="r")
    divisors = _unpacked(data, header.tensors[_ROTATIONS], torch.float32).flatten()
    settings = {
        "rope_type": "llama3",
        "rope_theta": base,
        "factor": float(divisors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(
        head_dim=head_size,
        num_attention_heads=1,
        hidden_size=head_size,
        max_position_embeddings=2**17,
        rope_parameters=settings,
    )
    made, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = base ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    if made.shape != divisors.shape or not torch.allclose(plain / made, divisors, rtol=1e-3):
        raise _no_network(header, "rotations by divisors of its own", "those of Llama 3")
    return settings


def _vocabulary(header: GgufHeader) -> int:
    """Return the number of tokens, which is that of the embeddings."""
    tokens, embeddings = len(tokens_of(header)), header.tensors.get("token_embd.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        raise _no_network(header, "a file without token_embd.weight", "a file with all tensors")
    if embeddings.shape[0] < tokens:
        raise InputError(
            f"The tokenizer of {header.path} is of another model. Got {tokens:,} tokens for "
            f"{embeddings.shape[0]:,} embeddings; accepted: an embedding for each token."
        )
    return embeddings.shape[0]


def _size(header: GgufHeader, name: str, default: int | None = None, limit: int = 2**24) -> int:
    value = header.of_architecture(name, default)
    if isinstance(value, list) and value and len(set(value)) == 1:
        value = value[0]  # the same in each layer
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
        got = f"{header.architecture}.{name} = {_shown(value)}"
        raise _no_network(header, got, f"a number from 1 to {limit:,}")
    return value


def _number(header: GgufHeader, name: str, default: float | None = None) -> float:
    value = header.of_architecture(name, default)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 < value < float("inf")
    ):
        got = f"{header.architecture}.{name} = {_shown(value)}"
        raise _no_network(header, got, "a positive number")
    return float(value)


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:40]


def _no_network(header: GgufHeader, got: str, accepted: str) -> InputError:
    return InputError(
        f"The network of {header.path} cannot be made. Got {got}; accepted: {accepted}."
    )


def _kind_name(tensor: StoredTensor) -> str:
    try:
        return GGMLQuantizationType(tensor.kind).name
    except ValueError:
        return f"number {tensor.kind}"
