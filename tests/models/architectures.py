"""Tiny random models of the architectures that people use, as folders in the Hugging Face layout.

Nothing is downloaded: tokenizers are trained on a few sentences, in the manners that occur:
byte-level with the split of Qwen or of Llama 3, and pieces with a mark for spaces and bytes for
what is unknown, as SentencePiece makes them for Mistral, Gemma and Phi-3. Chat templates are those
of the families in short: some trim the text of a message, that of Llama 3 prints the date.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = "
    "strftime_now('%d %b %Y') %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' }}"
    "{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content']|trim }}"
    "{%- set messages = messages[1:] %}{%- endif %}{{- '<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + "
    "('model' if message['role'] == 'assistant' else message['role']) + '\n' + "
    "message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + "
    "'<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

CORPUS = [
    "First, we add 3 and 4, which is 7.\n\nThen we take 7 times 2 = 14.\n\nThe answer is 14.\n",
    "system\nuser\nassistant\nmodel\nWhat is 12 plus 30? It is 42.\n\n\\boxed{42}\n\n",
    "<think>\nIs it 42 or 14? Perhaps 42.\n\n</think>\n\n",
] * 20


def byte_level(
    split: str, special: list[str], template: str, eos: str, bos: str | None = None
) -> PreTrainedTokenizerFast:
    backend = Tokenizer(tokenizer_models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return _wrapped(backend, special, template, eos, bos)


def sentence_pieces(
    special: list[str], template: str, eos: str, bos: str, *, leading_space: bool
) -> PreTrainedTokenizerFast:
    """Return pieces with a mark for spaces; characters outside of them are bytes."""
    marks = [normalizers.Replace(" ", "▁")]
    normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), *marks] if leading_space else marks
    )
    learned = Tokenizer(tokenizer_models.BPE())
    learned.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=160, show_progress=False)
    # Line breaks are left out: a byte stands for each.
    learned.train_from_iterator([line for text in CORPUS for line in text.split("\n")], trainer)
    state = json.loads(learned.to_str())["model"]
    tokens = ["<unk>", *special, *(f"<0x{byte:02X}>" for byte in range(256)), *state["vocab"]]
    backend = Tokenizer(
        tokenizer_models.BPE(
            {token: index for index, token in enumerate(dict.fromkeys(tokens))},
            [tuple(merge) for merge in state["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    backend.normalizer = normalizer
    ends: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(
        [*ends, decoders.Strip(" ", 1, 0)] if leading_space else ends
    )
    tokenizer = _wrapped(backend, special, template, eos, bos)
    tokenizer.add_special_tokens({"unk_token": "<unk>"})
    return tokenizer


def _wrapped(
    backend: Tokenizer, special: list[str], template: str, eos: str, bos: str | None
) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token=eos,
        bos_token=bos,
        pad_token=special[0],
        additional_special_tokens=[token for token in special if token not in (eos, bos)],
        chat_template=template,
    )


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    if family == "llama3":
        special = ["<|pad|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>"]
        special.append("<|end_header_id|>")
        return byte_level(LLAMA3_SPLIT, special, LLAMA3, "<|eot_id|>", "<|begin_of_text|>")
    if family == "gemma":
        special = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
        return sentence_pieces(special, GEMMA, "<end_of_turn>", "<bos>", leading_space=False)
    if family == "mistral":
        special = ["<pad>", "<s>", "</s>", "[INST]", "[/INST]"]
        return sentence_pieces(special, MISTRAL, "</s>", "<s>", leading_space=True)
    if family == "phi3":
        special = ["<|endoftext|>", "<s>", "<|end|>", "<|user|>", "<|assistant|>"]
        return sentence_pieces(special, PHI3, "<|end|>", "<s>", leading_space=True)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return byte_level(QWEN_SPLIT, special, CHATML, "<|im_end|>")


LLAMA3_ROTATION = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [2.0] * 8,
    "original_max_position_embeddings": 160,
}

WINDOW = 24  # less than the prompt alone

ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen2": ("qwen", "Qwen2", {}),
    "qwen2-window": (
        "qwen",
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "qwen3": ("qwen", "Qwen3", {"head_dim": 16}),
    "llama": ("llama3", "Llama", {}),
    "llama3-scaled": ("llama3", "Llama", {"rope_parameters": LLAMA3_ROTATION}),
    "gemma": ("gemma", "Gemma", {"head_dim": 16}),
    "gemma2": (
        "gemma",
        "Gemma2",
        {
            "head_dim": 16,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 8.0,
        },
    ),
    "gemma3": (
        "gemma",
        "Gemma3Text",
        {
            "head_dim": 16,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "mistral": ("mistral", "Mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", "Mistral", {"sliding_window": WINDOW}),
    "phi": ("qwen", "Phi", {"partial_rotary_factor": 0.5}),
    "phi3": ("phi3", "Phi3", {"sliding_window": WINDOW}),
    "phi3-longrope": (
        "phi3",
        "Phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 160},
    ),
    "granite": (
        "qwen",
        "Granite",
        {
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
            "logits_scaling": 2.0,
        },
    ),
    "gpt2": ("qwen", "GPT2", {}),
}
"""For each, the family of its tokenizer, the classes of transformers, and what is special."""


def make_model(name: str, vocab_size: int, eos_id: int) -> PreTrainedModel:
    _, kind, special = ARCHITECTURES[name]
    base = kind.removesuffix("Text")
    config_class = getattr(transformers, f"{kind}Config")
    model_class = getattr(
        transformers, f"{base}LMHeadModel" if kind == "GPT2" else f"{base}ForCausalLM"
    )
    # Kernels for 4-bit weights on the CPU need widths that are multiples of 64.
    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "eos_token_id": eos_id,
        "bos_token_id": None,
        "pad_token_id": 0,
    }
    if kind == "GPT2":
        settings |= {"n_inner": 128}
    torch.manual_seed(0)
    model: PreTrainedModel = model_class(config_class(**settings | special)).train(False)
    return model


def raise_logits(model: PreTrainedModel, logits: dict[int, float]) -> None:
    """Give some tokens a logit of about so much everywhere: along the mean of the states."""
    head: Tensor = model.get_output_embeddings().weight  # type: ignore[no-untyped-call]
    with torch.no_grad():
        text = torch.randint(5, head.shape[0], (4, 60), generator=torch.Generator().manual_seed(0))
        states = model(text, output_hidden_states=True).hidden_states[-1].reshape(-1, head.shape[1])
        mean = states.mean(0)
        for token_id, logit in logits.items():
            head[token_id] = logit * mean / mean.dot(mean)


def save_policy(name: str, folder: Path) -> Path:
    """Write a policy that breaks a line every few tokens, and stops after some lines."""
    tokenizer = tokenizer_of(ARCHITECTURES[name][0])
    model = make_model(name, len(tokenizer), int(tokenizer.eos_token_id))
    line_break = tokenizer.encode("7.\n", add_special_tokens=False)[-1]
    raise_logits(model, {line_break: 5.5, int(tokenizer.eos_token_id): 3.5})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
