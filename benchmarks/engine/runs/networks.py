"""The models by plain transformers, for contenders without a loader of their own.

A process reward model in the layout of Qwen2.5-Math-PRM: a chat whose assistant writes the steps,
each followed by a marker at which two labels are read.
"""

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    Qwen2Model,
    Qwen2PreTrainedModel,
)

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
MARKER = "<extra_0>"
DELIMITER = "\n\n"


class Scorer(Qwen2PreTrainedModel):
    """Qwen2 with a head of two layers under the names of the checkpoints."""

    def __init__(self, config):
        """Build the network."""
        super().__init__(config)
        width = config.hidden_size
        self.model = Qwen2Model(config)
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.post_init()


def load_policy(settings):
    """Return the language model and its tokenizer."""
    dtype = getattr(torch, settings["dtype"])
    placed = {}
    if settings["quantization"] is not None:
        placed = {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=settings["quantization"],
                bnb_4bit_compute_dtype=dtype,
            ),
            "device_map": {"": "cpu"},
        }
    model = AutoModelForCausalLM.from_pretrained(settings["policy"], dtype=dtype, **placed)
    model.generation_config.use_cache = True  # whatever the checkpoint says
    return model.eval().requires_grad_(False), load_tokenizer(settings["policy"])


def load_tokenizer(folder):
    """Return the tokenizer as its file says."""
    return PreTrainedTokenizerFast.from_pretrained(folder)


def chat(tokenizer, question, *, system=None):
    """Return the chat that puts a question, up to where the answer begins."""
    messages = [{"role": "user", "content": question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def ends_of_step(tokenizer):
    """Return the ids of the tokens that contain the delimiter of steps."""
    texts = ((number, tokenizer.decode([number])) for number in tokenizer.get_vocab().values())
    return [number for number, text in texts if DELIMITER in text]


class RewardModel:
    """A process reward model that reads whole solutions, many in one batch."""

    def __init__(self, folder):
        """Load the model."""
        self.tokenizer = load_tokenizer(folder)
        self.network = Scorer.from_pretrained(folder, dtype=torch.float32)
        self.network.eval().requires_grad_(False)
        self.trunk = self.network.model
        self.marker = self.tokenizer.convert_tokens_to_ids(MARKER)

    @torch.no_grad()
    def log_scores(self, question, solutions):
        """Return the log-probabilities that the steps are right, for each list of steps."""
        prompt = chat(self.tokenizer, question, system=SYSTEM)
        texts = [prompt + "".join(step.strip() + MARKER for step in steps) for steps in solutions]
        rows = [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        width = max(map(len, rows))
        # What is on the right of a token is not seen from it.
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        hidden = self.trunk(input_ids=ids, use_cache=False).last_hidden_state
        labels = self.network.score(hidden).float().log_softmax(-1)[..., 1]
        return [row[where].tolist() for row, where in zip(labels, ids == self.marker, strict=True)]
