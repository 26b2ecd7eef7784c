"""What each layer of a model may attend to, in the form in which the model wants to be told.

A row cache keeps all keys of a row. A layer with a sliding window sees the last `window` of them,
the token itself included; where layers differ, each kind gets a mask of its own. Fused kernels take
a mask of truth values, the plain implementation adds it to the logits of the attention: there, what
may not be seen is the lowest number.
"""

from typing import Any, Final

import torch
from torch import Tensor

from llmsmc.errors import InputError
from llmsmc.models.caches.row_cache import Slots

FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"

Masks = Tensor | dict[str, Tensor]


def layer_kinds(config: Any) -> set[str]:
    """Return what kinds of attention layers a model has: full, sliding or both.

    Raises:
        InputError: the model has layers whose state is not a list of keys and values.
    """
    text_config = config.get_text_config()
    kinds = set(getattr(text_config, "layer_types", None) or ())
    unknown = kinds - {FULL, SLIDING}
    if unknown:
        raise InputError(
            "Only models with plain attention can be run step by step here: the state of other "
            "layers is overwritten by each token, and can neither be cut back to the end of a "
            f"step nor skip padding. Got layers of type {', '.join(sorted(unknown))}; accepted: "
            f"{FULL}, {SLIDING}."
        )
    if kinds:
        return kinds
    return {FULL if getattr(text_config, "sliding_window", None) is None else SLIDING}


class Attention:
    """What the layers of a model may attend to."""

    def __init__(self, config: Any) -> None:
        """Read the configuration of a model; for errors see `layer_kinds`."""
        self._config, self._text_config = config, config.get_text_config()
        self._kinds = layer_kinds(config)

    def masks(self, slots: Slots) -> Masks:
        """Return the argument `attention_mask` of a forward pass over the tokens of `slots`."""
        masks = {FULL: slots.attention_mask}
        if SLIDING in self._kinds:
            window = int(self._text_config.sliding_window)
            masks[SLIDING] = slots.attention_mask & _is_near(slots, window)
        if self._text_config._attn_implementation == "eager":
            dtype = self._config.dtype or torch.get_default_dtype()
            masks = {kind: _additive(mask, dtype) for kind, mask in masks.items()}
        # Models that look their masks up by the kind of layer have several kinds.
        return masks if len(self._kinds) > 1 else masks[next(iter(self._kinds))]


def _is_near(slots: Slots, window: int) -> Tensor:
    """Return which cached positions are at most `window` - 1 before each new token."""
    positions = torch.arange(slots.extent, device=slots.position_ids.device)
    return (positions > slots.position_ids[:, :, None] - window)[:, None]


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, torch.finfo(dtype).min)
