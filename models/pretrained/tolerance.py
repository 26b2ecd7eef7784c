"""Tolerances of cached results beside uncached ones, by the precision of the computation.

One forward pass over a whole text and many passes over its tokens add up the same products in
another order. In exact arithmetic they agree; in floating point the log-probability of a token
differs by about the tolerances of this table, in nats. Kernels for quantised weights compute in
bfloat16 or in 8-bit integers, whatever the precision of the rest.
"""

from typing import Final

import torch

CACHED_TOLERANCE: Final = {
    "float32": 1e-4,
    "float16": 2e-2,
    "bfloat16": 1e-1,
    "int8": 2e-1,
    "int8-dynamic": 2e-1,
    "nf4": 1e-1,
    "fp4": 1e-1,
}
"""Nats a token, by precision of the weights."""

COARSEST: Final = max(CACHED_TOLERANCE.values())


def cached_tolerance(dtype: torch.dtype, quantization: str | None = None) -> float:
    """Return the tolerance of a model, in nats a token."""
    if quantization is None:
        return CACHED_TOLERANCE.get(str(dtype).removeprefix("torch."), COARSEST)
    return CACHED_TOLERANCE.get(quantization, COARSEST)
