"""A language model whose next token depends on the last one only, by a table that is known.

It is a network all the same, so that the local engine runs it; servers in the tests draw from the
table itself.
"""

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from llmsmc.models.policies.language_model import LanguageModel
from tests.models.conftest import tiny_config

# The first stands for every token that is not one of the others, as those of a prompt.
TOKENS = ("<|endoftext|>", "1", "2", ".ĊĊ", "Ċ", "<|im_start|>", "<|im_end|>")

# The law of the next token, of TOKENS, behind each of them.
LAW = torch.tensor(
    [
        [0.00, 0.40, 0.30, 0.00, 0.20, 0.10, 0.00],
        [0.00, 0.20, 0.25, 0.25, 0.20, 0.05, 0.05],
        [0.00, 0.15, 0.10, 0.35, 0.15, 0.05, 0.20],
        [0.00, 0.35, 0.25, 0.05, 0.10, 0.05, 0.20],
        [0.00, 0.25, 0.20, 0.05, 0.30, 0.15, 0.05],
        [0.00, 0.30, 0.30, 0.10, 0.25, 0.00, 0.05],
        [0.00, 1.00, 0.00, 0.00, 0.00, 0.00, 0.00],
    ]
)

NEVER = -60.0


def token_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    ids = tokenizer.convert_tokens_to_ids(list(TOKENS))
    assert isinstance(ids, list) and len(set(ids)) == len(TOKENS)
    return ids


def markov_policy(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    config = tiny_config(Qwen2Config, len(tokenizer))
    model = Qwen2ForCausalLM(config).train(False)
    ids, scale = token_ids(tokenizer), config.hidden_size**0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weight.zero_()  # what is left of a token is its embedding
        embeddings = model.get_parameter("model.embed_tokens.weight")
        embeddings.zero_()
        embeddings[:, 0] = 1.0
        for place, id in enumerate(ids):
            embeddings[id] = 0.0
            embeddings[id, place] = 1.0
        head = model.get_parameter("lm_head.weight")
        head.fill_(NEVER / scale)
        head[ids, : len(ids)] = LAW.clamp(min=1e-30).log().clamp(min=NEVER).T / scale
    return LanguageModel(model, tokenizer, name="markov")
