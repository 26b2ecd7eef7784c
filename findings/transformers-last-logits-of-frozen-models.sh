#!/usr/bin/env bash
# The logits of the last position of B texts copy the output embeddings B times.
#
# transformers 5.23.0, torch 2.13.0, on a processor with AVX-512. With `logits_to_keep=1`, as
# `generate` passes it for a prompt, the output embeddings of a model in bfloat16 read a slice of
# the hidden states that is not contiguous. If gradients are asked for nowhere, as after
# `model.requires_grad_(False)`, torch multiplies row by row with weights that it expands and copies
# first. A batch of 16 prompts allocates 16 times the output embeddings; of a model with 152,000
# words and 25 prompts it is 6.7 GB, and most of the time of reading them. Under `torch.no_grad()`
# alone, with parameters that could have gradients, nothing is copied.
#
# Expected: the same product, whether parameters are frozen or not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0
"$folder/bin/python" - <<'END'
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2Config, Qwen2ForCausalLM

torch.manual_seed(0)
sizes = dict(vocab_size=20_000, hidden_size=256, intermediate_size=256, num_hidden_layers=1)
heads = dict(num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
model = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads)).eval().to(torch.bfloat16)
prompts = torch.randint(0, 20_000, (16, 8))
size = model.lm_head.weight.numel() * 2


def allocated(**settings):
    """Bytes that a pass over the prompts allocates, in sizes of the output embeddings."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        model(prompts, use_cache=False, **settings)
    return max(event.self_cpu_memory_usage for event in seen.key_averages()) / size


found = {}
for frozen in (False, True):
    model.requires_grad_(not frozen)
    for kept in (0, 1):
        name = f"{'frozen' if frozen else 'trainable'}, logits of {'the last' if kept else 'all'}"
        found[name] = allocated(logits_to_keep=kept)
for name, copies in found.items():
    print(f"{name:32} {copies:6.2f} times the output embeddings")
if torch.backends.cpu.get_cpu_capability() != "AVX512":
    raise SystemExit("this processor has no AVX-512: nothing can be said")
assert found["trainable, logits of the last"] < 0.5, "this has changed"
assert found["frozen, logits of the last"] > 15, "this has changed"
END
