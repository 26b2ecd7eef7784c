#!/usr/bin/env bash
# A reward model that pads with its end token is read at the token before the end.
#
# transformers 5.23.0, torch 2.13.0. Models with a head for sequences are read at the last token
# that is no padding, and what is padding is told by the token, not by `attention_mask`. With
# `pad_token_id = eos_token_id`, a common setting where a tokenizer has no token for padding, an
# answer that ends properly is scored at its last word: the same number as if it had been cut off
# before its end, padded or not, and another one than at the token that the mask marks as last.
# Issue 35352 of transformers tells of the same setting; since it was closed the last such token
# is taken and not the first, but the end of the answer is still passed over.
#
# Expected: the last token that the mask holds to be text.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0
"$folder/bin/python" - <<'END'
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

END = 2
torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
tokens = dict(bos_token_id=1, eos_token_id=END, pad_token_id=END)
config = LlamaConfig(**sizes, **tokens, num_attention_heads=4, num_labels=1)
model = LlamaForSequenceClassification(config).eval()


def score(row, mask):
    with torch.no_grad():
        return model(torch.tensor([row]), attention_mask=torch.tensor([mask])).logits.item()


answer = [1, 10, 11, 12]
with torch.no_grad():
    hidden = model.model(torch.tensor([[*answer, END]])).last_hidden_state
    positions = model.score(hidden)[0, :, 0].tolist()
cut = score(answer, [1] * 4)
ended = score([*answer, END], [1] * 5)
padded = score([*answer, END, END, END], [1] * 5 + [0] * 2)
print("head at each position:", positions)
print(f"cut off: {cut}; with its end: {ended}; with its end, padded: {padded}")
assert max(abs(ended - cut), abs(padded - cut), abs(cut - positions[-2])) < 1e-5, "this has changed"
assert abs(ended - positions[-1]) > 1e-3, "this has changed"
END
