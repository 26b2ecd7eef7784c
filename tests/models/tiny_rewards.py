"""For each convention a tiny random network of its architecture, a tokenizer of its kind, and the
formula of its documentation, written out without the library.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForTokenClassification,
)

from llmsmc.models.rewards.conventions.value_head import LlamaForPrmModel, Qwen2ForPrmModel
from tests.models.conftest import CORPUS, make_reward_network, tiny_config

LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_SPECIAL = [
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[PRM]",
]
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MORE = ["Add 3 and 4. \n\n\n\nThen 7. \n\n\n\n", "Step 1: 3 + 4 = 7. ки\nStep 2: 7 - 2 ки + -"] * 20


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, split as Llama 3 does, a chat template that trims, a first token."""
    backend = Tokenizer(tokenizer_models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=350,
        special_tokens=LLAMA_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*CORPUS, *MORE * 3], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        additional_special_tokens=LLAMA_SPECIAL[1:],
        chat_template=LLAMA_TEMPLATE,
    )


def mistral_tokenizer() -> PreTrainedTokenizerFast:
    """Spaces are written into the tokens, and one is put before every text, as in SentencePiece."""
    backend = Tokenizer(tokenizer_models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁\n]+|▁|\n"), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=sorted({chr(n) for n in range(33, 127)} | {"\n", "к", "и", "▁"}),
        show_progress=False,
    )
    backend.train_from_iterator([*CORPUS, *MORE * 3], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def with_first_token(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
    )


def network(kind: Any, config: Any, vocab_size: int, head: str) -> Any:
    """A random network whose scores differ."""
    torch.manual_seed(1)
    settings = tiny_config(config, vocab_size)
    settings.num_labels = 2
    model = kind(settings).train(False)
    with torch.no_grad():
        model.get_parameter("model.embed_tokens.weight").normal_()
        model.get_parameter(head).normal_(std=0.3)
    return model


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def logits_of(model: Any, ids: Sequence[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([list(ids)])).logits[0]
    return logits


def qwen(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    text = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
    ids = ids_of(tokenizer, text + "<|im_start|>assistant\n")
    for step in steps:
        ids += ids_of(tokenizer, step.strip()) + ids_of(tokenizer, "<extra_0>")
    marked = torch.tensor(ids) == tokenizer.convert_tokens_to_ids("<extra_0>")
    return logits_of(model, ids).softmax(-1)[marked, 1]


def math_shepherd(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    lines = [f"Step {n}: {step.strip()} ки" for n, step in enumerate(steps, start=1)]
    ids = tokenizer.encode(f"{question} " + "\n".join(lines))
    labels = tokenizer.encode("+ -")[1:]
    marked = torch.tensor(ids) == tokenizer.encode("ки")[-1]
    return logits_of(model, ids)[:, labels].softmax(-1)[marked, 0]


def rlhflow(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    labels = [tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]]
    conversation, scores = list[dict[str, str]](), list[Tensor]()
    for n, step in enumerate(steps):
        content = step.strip() if n else f"{question} {step.strip()}"
        conversation.append({"role": "user", "content": content})
        conversation.append({"role": "assistant", "content": "+"})
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
        scores.append(logits_of(model, ids_of(tokenizer, text))[-3, labels].softmax(-1)[0])
    return torch.stack(scores)


def skywork(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    ids, reads = tokenizer.encode(tokenizer.bos_token + question + "\n"), list[int]()
    for step in steps:
        ids = ids + ids_of(tokenizer, step.strip()) + [tokenizer.encode("\n")[-1]]
        reads.append(len(ids) - 1)
    return logits_of(model, ids)[reads, 0].sigmoid()


def versa(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    text = f"{question} \n\n" + "".join(f"{step.strip()} \n\n\n\n" for step in steps)
    ids = tokenizer.encode(text)
    labels = [tokenizer.encode("-")[-1], tokenizer.encode("+")[-1]]
    marked = torch.tensor(ids) == tokenizer.encode(" \n\n\n\n")[-1]
    return logits_of(model, ids)[:, labels].softmax(-1)[marked, 1]


def trl(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    ids, reads = ids_of(tokenizer, question), list[int]()
    if tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids]
    for step in steps:
        ids = ids + ids_of(tokenizer, step.strip()) + ids_of(tokenizer, "\n")
        reads.append(len(ids) - 1)
    return logits_of(model, ids).softmax(-1)[reads, 1]


def pure(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    ids, reads = ids_of(tokenizer, question), list[int]()
    for step in steps:
        ids = ids + ids_of(tokenizer, step.strip()) + ids_of(tokenizer, "\n")
        reads.append(len(ids) - 1)
    probabilities = logits_of(model, ids)[reads].softmax(-1)
    return (probabilities[:, 1] - probabilities[:, 0] + 1) / 2


def pqm(model: Any, tokenizer: Any, question: str, steps: Sequence[str]) -> Tensor:
    prompt = (
        "Below is an instruction that describes a task.\nWrite a response that appropriately "
        f"completes the request.\n\n### Instruction:\n{question}\n\n### Response: Let's think step "
        "by step"
    )
    numbered = [f"Step {n}: {step.strip()}" for n, step in enumerate(steps, start=1)]
    ids = ids_of(tokenizer, f"{prompt}\n" + " [PRM]\n".join(numbered) + " [PRM]")
    marked = torch.tensor(ids) == tokenizer.convert_tokens_to_ids("[PRM]")
    return logits_of(model, ids)[marked, 0].sigmoid()


FORMULAS: dict[str, Callable[[Any, Any, str, Sequence[str]], Tensor]] = {
    "qwen": qwen,
    "math-shepherd": math_shepherd,
    "rlhflow": rlhflow,
    "skywork": skywork,
    "versa": versa,
    "trl": trl,
    "pure": pure,
    "pqm": pqm,
}

NETWORKS: dict[str, tuple[Any, Any, str]] = {
    "math-shepherd": (MistralForCausalLM, MistralConfig, "lm_head.weight"),
    "rlhflow": (LlamaForCausalLM, LlamaConfig, "lm_head.weight"),
    "skywork": (Qwen2ForPrmModel, Qwen2Config, "v_head.summary.weight"),
    "versa": (LlamaForCausalLM, LlamaConfig, "lm_head.weight"),
    "trl": (Qwen2ForTokenClassification, Qwen2Config, "score.weight"),
    "pure": (Qwen2ForTokenClassification, Qwen2Config, "score.weight"),
    "pqm": (LlamaForPrmModel, LlamaConfig, "v_head.summary.weight"),
}


def tokenizers_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, PreTrainedTokenizerFast]:
    """The tokenizer of each convention; `tokenizer` is that of Qwen."""
    llama = llama_tokenizer()
    return {
        "qwen": tokenizer,
        "math-shepherd": mistral_tokenizer(),
        "rlhflow": llama,
        "skywork": with_first_token(tokenizer),
        "versa": llama,
        "trl": tokenizer,
        "pure": tokenizer,
        "pqm": llama,
    }


def model_of(name: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    if name == "qwen":
        return make_reward_network(len(tokenizer))
    kind, config, head = NETWORKS[name]
    return network(kind, config, len(tokenizer), head)
