"""Quantised weights, made by bitsandbytes while a checkpoint is loaded, or stored in it.

The kind that this package makes itself is in `llmsmc.models.pretrained.dynamic_int8`.

The quantised model is the transition of the state-space model, not an approximation to be
corrected: its log-probabilities are the ones that are recorded.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from llmsmc.core.checks import require_choice
from llmsmc.core.extras import optional
from llmsmc.errors import InputError
from llmsmc.models.pretrained import dynamic_int8
from llmsmc.models.pretrained.names import QUANTIZATIONS


def quantization_config(
    name: str | None,
    dtype: torch.dtype,
    full_precision: Sequence[str] | None = None,
    *,
    double: bool = False,
) -> BitsAndBytesConfig | None:
    """Return the setting of `from_pretrained` for a quantization by bitsandbytes; None for others.

    Args:
        name: one of `QUANTIZATIONS`, or None.
        dtype: the precision in which products with 4-bit weights are computed.
        full_precision: the modules left as they are; by default the output embeddings.
        double: whether the scales of 4-bit weights are quantised as well.

    Raises:
        InputError: the settings do not go together.
        MissingExtraError: bitsandbytes is not installed.
    """
    if name is not None:
        require_choice("quantization", name, QUANTIZATIONS)
    if double and name not in ("nf4", "fp4"):
        raise InputError(
            "Double quantization is of the scales of 4-bit weights. Got double_quantization=True "
            f"beside quantization={name!r}; accepted: 'nf4', 'fp4'."
        )
    if name in (None, "none", dynamic_int8.NAME):
        return None
    _require_bitsandbytes(f"quantization={name!r}")
    if name == "int8":
        settings: dict[str, Any] = {"load_in_8bit": True}
    else:
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": name,
            "bnb_4bit_compute_dtype": dtype,
            "bnb_4bit_use_double_quant": double,
        }
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        llm_int8_skip_modules=None if full_precision is None else list(full_precision), **settings
    )


def quantization_method(stored: dict[str, Any] | None) -> str | None:
    """Return the method that a `quantization_config` names ("gptq", ...); None without one."""
    return str(stored.get("quant_method") or "bitsandbytes") if stored else None


def stored_quantization(
    source: str, requested: str | None = None, revision: str | None = None
) -> str | None:
    """Return the method by which a checkpoint is quantised already ("gptq", ...), or None.

    Raises:
        InputError: a quantization is requested on top of it, or transformers does not read it.
        MissingExtraError: bitsandbytes is needed and not installed. For packages that other
            methods need, transformers itself raises an `ImportError` while it loads.
    """
    config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    method = quantization_method(config.get("quantization_config"))
    if method is None:
        return None
    if requested is not None:
        raise InputError(
            f"A checkpoint is quantised once. Got quantization={requested!r} for {source}, which "
            f"is quantised by {method} already; accepted: quantization=None."
        )
    known = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}
    if method not in known:
        raise InputError(
            f"{source} is quantised in a way that this version of transformers does not read. Got "
            f"{method!r}; accepted: {', '.join(sorted(known))}."
        )
    if method == "bitsandbytes":
        _require_bitsandbytes(f"A checkpoint that is quantised by it ({source})")
    return method


def _require_bitsandbytes(purpose: str) -> None:
    """Import the package, and drop a warning that it repeats at every product of 8-bit weights."""
    optional("bitsandbytes", extra="quantization", purpose=purpose)
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)


def _is_no_cast(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("MatMul8bitLt: inputs will be cast from ")
