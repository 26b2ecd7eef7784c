"""Quantised weights by bitsandbytes, by name.

The quantised model is the transition of the state-space model, not an approximation to be
corrected: its log-probabilities are the ones that are recorded.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import BitsAndBytesConfig

from llmsmc.checks import require_choice
from llmsmc.errors import InputError

QUANTIZATIONS: Final = ("none", "int8", "nf4", "fp4")


def quantization_config(
    name: str | None, dtype: torch.dtype, full_precision: Sequence[str] | None = None
) -> BitsAndBytesConfig | None:
    """Return what `from_pretrained` needs for the quantization `name`; None for full precision.

    Args:
        name: one of `QUANTIZATIONS`, or None.
        dtype: the precision in which products with 4-bit weights are computed.
        full_precision: the modules left as they are; by default the output embeddings.
    """
    if name is None:
        return None
    require_choice("quantization", name, QUANTIZATIONS)
    if name == "none":
        return None
    for package in ("bitsandbytes", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"quantization={name!r} needs the package {package}, which is not installed. "
                f"Accepted: quantization=None, or `pip install {package}`."
            )
    if name == "int8":
        settings: dict[str, Any] = {"load_in_8bit": True}
    else:
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": name,
            "bnb_4bit_compute_dtype": dtype,
        }
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        llm_int8_skip_modules=None if full_precision is None else list(full_precision), **settings
    )
