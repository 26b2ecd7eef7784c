"""Recipes of the policies: a clean one first, then misconceptions on top of it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from llmsmc.core.randomness import seeded_globally
from llmsmc.models.minimath.training.corpus import IGNORED, Batches

MAX_POSITIONS = 1024


@dataclass(frozen=True)
class Size:
    """Size of a Qwen2 network."""

    hidden: int = 192
    intermediate: int = 576
    layers: int = 4
    heads: int = 6
    key_value_heads: int = 2


def qwen2_config(size: Size, tokenizer: PreTrainedTokenizerBase) -> Qwen2Config:
    """Return the configuration of a Qwen2 network over a tokenizer."""
    return Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )


def new_policy(size: Size, tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen2ForCausalLM:
    """Return a policy with random weights drawn with `seed`, not with the global generator."""
    with seeded_globally(seed):
        return Qwen2ForCausalLM(qwen2_config(size, tokenizer))


@dataclass
class NextToken:
    """The mean cross-entropy of the labelled tokens, on batches labelled with the tokens."""

    model: Qwen2ForCausalLM
    batches: Batches

    def __call__(self, update: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of an update, and the share of tokens predicted."""
        batch = self.batches[update]
        device = self.model.device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            hidden = self.model.model(batch.token_ids.to(device)).last_hidden_state
            wanted = batch.labels[0][:, 1:].to(device)
            kept = wanted != IGNORED
            logits = self.model.lm_head(hidden[:, :-1][kept])
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted[kept])
        right = (logits.argmax(-1) == wanted[kept]).float().mean()
        return loss, {"accuracy": float(right), "tokens": float(batch.token_ids.numel())}
