#!/usr/bin/env bash
# Beam search leaves half of the cache of MiniMax where it was.
#
# transformers 5.23.0, torch 2.13.0. Every other layer of MiniMax has linear attention, whose
# states are kept outside the layers of its cache. `reorder_cache`, which beam search calls after
# every token, reorders the layers alone, so that a beam goes on with the states of another one.
# Nothing is said. `batch_select_indices` does it right.
#
# Expected: the logits that the reordered texts have without a cache.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0
"$folder/bin/python" - <<'END'
import copy

import torch
from transformers import MiniMaxConfig, MiniMaxForCausalLM

torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4)
heads = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8, initializer_range=0.2)
other = dict(num_local_experts=2, num_experts_per_tok=1, bos_token_id=1, eos_token_id=2)
model = MiniMaxForCausalLM(MiniMaxConfig(**sizes, **heads, **other, pad_token_id=0)).eval()

texts = torch.randint(3, 64, (3, 9))
token = torch.randint(3, 64, (3, 1))
ancestors = torch.tensor([2, 0, 0])
with torch.no_grad():
    cache = model(texts, use_cache=True).past_key_values
    right = model(torch.cat([texts[ancestors], token], 1), use_cache=False).logits[:, -1]
    errors = {}
    for name in ("batch_select_indices", "reorder_cache"):
        reordered = copy.deepcopy(cache)
        getattr(reordered, name)(ancestors)
        logits = model(token, past_key_values=reordered).logits[:, -1]
        errors[name] = float((logits - right).abs().max())
print("largest error of the next logits:", errors)
print("their standard deviation:", float(right.std()))
assert errors["batch_select_indices"] < 1e-4, "this has changed"
assert errors["reorder_cache"] > 0.5, "this has changed"

options = dict(attention_mask=torch.ones(1, 9, dtype=torch.long), max_new_tokens=8)
options |= dict(num_beams=4, do_sample=False)
changed = 0
for text in texts:
    answers = [
        model.generate(text[None], use_cache=cached, **options).tolist()
        for cached in (True, False)
    ]
    changed += answers[0] != answers[1]
print(f"beam search answers otherwise with a cache than without: {changed} of 3")
assert changed, "this has changed"
END
