#!/usr/bin/env bash
# Selecting rows of the cache of a hybrid model selects those of its attention alone.
#
# transformers 5.23.0, torch 2.13.0. In Falcon-H1 every layer has attention and a state-space
# part beside each other. `batch_select_indices`, by which a population of answers is resampled
# or pruned, gathers the keys and values but not the convolutional and recurrent states, without
# a word: row 0 goes on with the text of its ancestor in attention and its own in the other part.
# The next logits are wrong by more than their standard deviation. `reorder_cache` does it right.
# Where fewer rows are selected, or rows repeated by `batch_repeat_interleave`, the next step
# ends in an error about sizes of tensors.
#
# Expected: the logits that the selected texts have without a cache.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0
"$folder/bin/python" - <<'END'
import copy

import torch
from transformers import FalconH1Config, FalconH1ForCausalLM

torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
heads = dict(num_attention_heads=4, num_key_value_heads=2, mamba_n_heads=4, mamba_d_head=8)
states = dict(mamba_d_ssm=32, mamba_d_state=8, mamba_n_groups=1, initializer_range=0.2)
model = FalconH1ForCausalLM(FalconH1Config(**sizes, **heads, **states)).eval()

texts = torch.randint(3, 64, (3, 9))
token = torch.randint(3, 64, (3, 1))
ancestors = torch.tensor([2, 0, 0])
with torch.no_grad():
    cache = model(texts, use_cache=True).past_key_values
    right = model(torch.cat([texts[ancestors], token], 1), use_cache=False).logits[:, -1]
    errors = {}
    for name in ("batch_select_indices", "reorder_cache"):
        selected = copy.deepcopy(cache)
        getattr(selected, name)(ancestors)
        logits = model(token, past_key_values=selected).logits[:, -1]
        errors[name] = float((logits - right).abs().max())
print("largest error of the next logits:", errors)
print("their standard deviation:", float(right.std()))
assert errors["reorder_cache"] < 1e-4, "this has changed"
assert errors["batch_select_indices"] > 0.5, "this has changed"
END
