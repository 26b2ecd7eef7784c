#!/usr/bin/env bash
# The number of an added token is not read from the file.
#
# tokenizers 0.23.3. In tokenizer.json each of `added_tokens` has an `id`. Where it is not the
# next number after the vocabulary, as for a model whose embedding has a gap for tokens to come,
# it is replaced by the next one, and nothing is said; what is saved afterwards has the new
# number. A model is then given the embedding of another token.
#
# Expected: the number in the file, or an error.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    tokenizers==0.23.3
"$folder/bin/python" - <<'END'
import json

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "two": 1, "and": 2}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = Whitespace()
tokenizer.add_special_tokens([AddedToken("<step>", special=True)])
text = json.loads(tokenizer.to_str())
for number in (3, 4, 8):
    text["added_tokens"][0]["id"] = number
    read = Tokenizer.from_str(json.dumps(text))
    saved = json.loads(read.to_str())["added_tokens"][0]["id"]
    ids = read.encode("two and two<step>").ids
    print(f"id {number} in the file: encoded as {ids}, saved again as {saved}")
    assert ids == [1, 2, 1, 3] and saved == 3, "this has changed"
END
