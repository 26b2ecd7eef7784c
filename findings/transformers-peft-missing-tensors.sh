#!/usr/bin/env bash
# With an adapter beside it, a model from which a tensor is missing is reported as complete.
#
# transformers 5.23.0 with peft 0.21.2. `from_pretrained(..., output_loading_info=True)` names in
# `missing_keys` what was not found in the files and is random. Where an adapter was saved into
# the folder of the model, as `save_pretrained` of peft does if told that folder, the adapter is
# loaded with the model, and its report takes the place of that of the model: nothing is missing,
# and a matrix is random all the same.
#
# Expected: what is missing in the model, with what is missing in the adapter.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2
"$folder/bin/python" - "$folder/model" <<'END'
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

NAME = "model.layers.0.mlp.up_proj.weight"
folder = sys.argv[1]
sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4))
model.save_pretrained(folder)
tensors = load_file(f"{folder}/model.safetensors")
saved = tensors.pop(NAME)
save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})


def load():
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    layer = dict(loaded.named_parameters())[NAME]
    return set(info["missing_keys"]), torch.equal(layer, saved)


alone = load()
get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(folder)
beside = load()
print("missing, and whether the matrix is the one that was saved:")
print("  the model alone:", *alone)
print("  with an adapter:", *beside)
assert alone == ({NAME}, False), "this has changed"
assert beside == (set(), False), "this has changed"
END
