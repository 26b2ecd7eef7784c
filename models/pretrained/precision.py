"""The precision in which a model is computed on a processor where nobody says one.

Small models, and with them the embedded ones, are computed in single precision. Large ones are
computed in bfloat16 where the processor multiplies in it (AMX or AVX-512-BF16): the weights are
half as large, and reading them is what a token of a few rows waits for. The choice follows from the
model and the processor alone, so that it is the same in all runs on a machine.
"""

from typing import Any, Final

import torch

LARGE: Final = 2**26
"""Weights from which on a model counts as large."""

_INSTRUCTIONS: Final = ("amx_bf16", "avx512_bf16")


def default_dtype(config: Any) -> str:
    """Return the name of the precision of the model of a configuration on this processor."""
    return "bfloat16" if is_large(config) and computes_in_bfloat16() else "float32"


def is_large(config: Any) -> bool:
    """Return whether the processor decides on the precision of a model."""
    return num_weights(config) >= LARGE


def num_weights(config: Any) -> int:
    """Return about how many weights a network of transformer layers has."""
    sizes = config.get_text_config()

    def size(*names: str) -> int:
        found = (getattr(sizes, name, None) for name in names)
        return next((int(value) for value in found if isinstance(value, int)), 0)

    hidden = size("hidden_size", "n_embd")
    inner = size("intermediate_size", "n_inner") or 4 * hidden
    layers = size("num_hidden_layers", "n_layer")
    return layers * hidden * (4 * hidden + 3 * inner) + size("vocab_size") * hidden


def computes_in_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in _INSTRUCTIONS)
