"""A language model of random weights, large enough that its arithmetic takes most of the time."""

import shutil
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from llmsmc.models.pretrained.loading import load_tokenizer, resolve


def random_model(folder: Path) -> Path:
    """Return a folder with a Qwen2 of 147 million parameters, which is made where there is none."""
    home = folder / "random-150m"
    if (home / "config.json").exists():
        return home
    source = resolve("minimath-policy")
    tokenizer = load_tokenizer(source)
    config = Qwen2Config(
        vocab_size=448,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=13,
        num_attention_heads=16,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unfinished = folder / "random-150m.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).bfloat16().save_pretrained(unfinished)
    for path in Path(source).iterdir():
        if path.name.startswith(("tokenizer", "chat_template")):
            shutil.copy(path, unfinished)
    unfinished.rename(home)
    return home
