r"""The memory that a run needs, computed from the configurations of its models alone.

$$\text{weights} = \sum_{\text{matrices}} b_q \, |W| + \sum_{\text{others}} b \, |W|, \qquad
\text{cache} = N \, (P + L) \cdot 2 \, K \, H \, D \, b$$

with b bytes of a number in the precision of the computation, $b_q$ bytes of a quantised weight with
its scales, N particles, P tokens of the prompt, L of a solution, K layers, H key-value heads and D
their width. Quantised are the matrices of the linear layers except the output embeddings; the
numbers of parameters are counted on the model itself, made without memory behind it.

Further memory depends on the kernels: activations, and logits ($N V$ numbers in single
precision, several times). A filter extends particles in the buffers of their parents, which takes
little more than this: the rest of a block of tokens, a layer while it grows, and in the reward
model the padding of rows that are shorter than the longest. Algorithms that come back to particles
which they have extended (resample-move, particle Gibbs) hold the old cache beside the new one.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM

from llmsmc.core.checks import require_choice

BLOCK: Final = 64  # weights that share a scale in 4 bits, which is kept in single precision
NESTED_BLOCK: Final = 256  # scales that share a scale under double quantization, kept in 8 bits

BYTES_PER_WEIGHT: Final = {
    "int8": 1.0,
    "nf4": 0.5 + 4 / BLOCK,
    "fp4": 0.5 + 4 / BLOCK,
    "nf4-double": 0.5 + 1 / BLOCK + 4 / (BLOCK * NESTED_BLOCK),
    "fp4-double": 0.5 + 1 / BLOCK + 4 / (BLOCK * NESTED_BLOCK),
}
"""Bytes of a quantised weight, its share of the scales included (in int8, those of a row)."""


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a model.

    Attributes:
        quantizable: parameters in the matrices of linear layers other than the output embeddings.
        rows: rows of these matrices, each of which has a scale in int8.
        others: all other parameters; embeddings that are also output embeddings once.
        cached_per_token: numbers that a token adds to the cache.
        vocab_size: numbers in the logits behind a token.
    """

    quantizable: int
    rows: int
    others: int
    cached_per_token: int
    vocab_size: int

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return self.quantizable + self.others

    def weights(self, quantization: str = "none", bytes_per_number: int = 2) -> int:
        """Return the bytes of the weights.

        Args:
            quantization: "none", or one of `BYTES_PER_WEIGHT`.
            bytes_per_number: bytes of other numbers: 4 in single precision, 2 in half.
        """
        require_choice("quantization", quantization, ("none", *BYTES_PER_WEIGHT))
        others = self.others * bytes_per_number
        if quantization == "none":
            return self.quantizable * bytes_per_number + others
        scales = 4 * self.rows if quantization == "int8" else 0
        return math.ceil(self.quantizable * BYTES_PER_WEIGHT[quantization]) + scales + others

    def cache(self, num_particles: int, num_tokens: int, bytes_per_number: int = 2) -> int:
        """Return the bytes of the cached keys and values of N particles of so many tokens."""
        return num_particles * num_tokens * self.cached_per_token * bytes_per_number


def model_size(config: Any) -> ModelSize:
    """Return the sizes of a causal language model with this configuration, without its weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    total = sum(parameter.numel() for parameter in model.parameters())
    quantizable = sum(layer.weight.numel() for layer in layers)
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelSize(
        quantizable=quantizable,
        rows=sum(layer.weight.shape[0] for layer in layers),
        others=total - quantizable,
        cached_per_token=2 * text.num_hidden_layers * heads * width,
        vocab_size=int(text.vocab_size),
    )
