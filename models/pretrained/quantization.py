"""Quantised weights: by bitsandbytes while a checkpoint is loaded, or as a checkpoint has them.

The quantised model is the transition of the state-space model, not an approximation to be
corrected: its log-probabilities are the ones that are recorded.
"""

import importlib.util
import logging
from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import BitsAndBytesConfig, PreTrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from llmsmc.core.checks import require_choice
from llmsmc.errors import InputError
from llmsmc.models.pretrained.names import QUANTIZATIONS

_PACKAGES: Final = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "eetq": ("kernels",),
    "gptq": ("optimum", "gptqmodel"),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""What reads the weights of a checkpoint, by its `quant_method`; all need accelerate as well."""

_DISTRIBUTIONS: Final = {"optimum.quanto": "optimum-quanto"}


def quantization_config(
    name: str | None,
    dtype: torch.dtype,
    full_precision: Sequence[str] | None = None,
    *,
    double: bool = False,
) -> BitsAndBytesConfig | None:
    """Return what `from_pretrained` needs for the quantization `name`; None for full precision.

    Args:
        name: one of `QUANTIZATIONS`, or None.
        dtype: the precision in which products with 4-bit weights are computed.
        full_precision: the modules left as they are; by default the output embeddings.
        double: whether the scales of 4-bit weights are quantised as well.
    """
    if name is not None:
        require_choice("quantization", name, QUANTIZATIONS)
    if double and name not in ("nf4", "fp4"):
        raise InputError(
            "Double quantization is of the scales of 4-bit weights. Got double_quantization=True "
            f"beside quantization={name!r}; accepted: 'nf4', 'fp4'."
        )
    if name is None or name == "none":
        return None
    _require_packages(f"quantization={name!r}", ("bitsandbytes",), "quantization=None")
    _silence_casts()
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
    """Return what the `quantization_config` of a checkpoint names ("gptq", ...); None without."""
    return str(stored.get("quant_method") or "bitsandbytes") if stored else None


def stored_quantization(
    source: str, requested: str | None = None, revision: str | None = None
) -> str | None:
    """Return how a checkpoint is quantised already ("gptq", "awq", "torchao", ...), or None.

    Raises:
        InputError: a quantization is requested on top of it, or what reads it is missing.
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
    subject = f"{source} is quantised by {method}, which"
    _require_packages(subject, _PACKAGES.get(method, ()), "a checkpoint that is not quantised")
    if method == "bitsandbytes":
        _silence_casts()
    return method


def _silence_casts() -> None:
    """Drop one warning of bitsandbytes, which it repeats at every product of 8-bit weights."""
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)


def _is_no_cast(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("MatMul8bitLt: inputs will be cast from ")


def _require_packages(subject: str, packages: Sequence[str], otherwise: str) -> None:
    missing = [name for name in (*packages, "accelerate") if not _is_installed(name)]
    if missing:
        names = [_DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in missing]
        raise InputError(
            f"{subject} needs packages that are not installed. Got an installation without "
            f"{' and '.join(names)}; accepted: {otherwise}, or `pip install {' '.join(names)}`."
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
