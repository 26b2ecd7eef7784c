"""What each layer of a model may attend to, and attention over it without copies.

A row cache keeps all keys of a row. A layer with a sliding window sees the last `window` of them,
the token itself included; where layers differ, each kind gets a mask of its own. Fused kernels take
a mask of truth values, the plain implementation adds it to the logits of the attention: there, what
may not be seen is the lowest number.

Query heads that share keys and values have no copies of them on a CPU. transformers copies them
where several new tokens are fed under a mask, as when steps are scored, since its fused kernels for
CUDA ask for that; releases before 5.23 do so for a single new token, too. Fused kernels for CPUs do
not, and give the same numbers bit for bit. With a single new token, the queries of a group stand
side by side as those of several tokens would, so that keys and values are read once for all.

So do the queries of all rows where these have a beginning in common, which is held once (see
`llmsmc.models.caches.row_cache.Beginning`). What they find there and what they find behind it is
averaged, each by the mass of its part of the softmax.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from llmsmc.errors import InputError
from llmsmc.models.caches.row_cache import Beginning, Slots

FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"
GROUPED: Final = "llmsmc_sdpa"

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

    @property
    def shares_beginnings(self) -> bool:
        """Whether its layers can attend to a beginning that is held once."""
        return self._text_config._attn_implementation == GROUPED and self._kinds == {FULL}

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


def use_grouped_attention(model: Any) -> None:
    """Let a model attend so if it is on a CPU and would use the fused kernels of torch."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(GROUPED, grouped_attention)
        AttentionMaskInterface.register(GROUPED, sdpa_mask)
        model.set_attn_implementation(GROUPED)


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    beginning: Beginning | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Return what new tokens attend to: `sdpa_attention_forward` of transformers without copies.

    Args:
        module: the attention layer.
        query: [B, heads, q, D].
        key: [B, heads that are shared, extent, D].
        value: the same.
        attention_mask: [B, 1, q, extent]; None where there is none.
        dropout: of the weights.
        scaling: of the products.
        beginning: what all rows begin with, if it is held once; keys and values are those behind
            it.
        settings: whatever else the layer says.
    """
    others = ("position_bias", "softcap", "cache")
    if (
        attention_mask is None
        or query.device.type != "cpu"
        or any(settings.get(name) is not None for name in others)
    ):
        if beginning is not None:
            raise NotImplementedError("Such a layer attends to whole rows only.")
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **settings
        )
        return found
    num_rows, num_heads, num_new, width = query.shape
    if num_new == 1:
        query = query.reshape(num_rows, key.shape[1], -1, width)
    if beginning is None:
        output = scaled_dot_product_attention(
            query, key, value, attention_mask, dropout, scale=scaling, enable_gqa=True
        )
    else:
        mask = _additive(attention_mask, query.dtype)
        own = _attended(query, key, value, attn_mask=mask, scale=scaling)
        output = _merged(_in_beginning(query, beginning, module, scaling), own)
    by_head = output.reshape(num_rows, num_heads, num_new, -1)
    return by_head.transpose(1, 2).contiguous(), None


Attended = tuple[Tensor, Tensor]
"""What queries find, [B, heads, q, D], and the log of their mass, [B, heads, q]."""

_attended: Final = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _in_beginning(
    query: Tensor, beginning: Beginning, layer: Any, scaling: float | None
) -> Attended:
    """Return what the queries find in the beginning: those of all rows side by side."""
    number = 2 * layer.layer_idx
    keys, values = beginning.buffers[number], beginning.buffers[number + 1]
    num_rows, _, _, width = query.shape
    by_key = query.reshape(num_rows, keys.shape[1], -1, width).transpose(0, 1)
    found, mass = _attended(by_key.reshape(1, len(by_key), -1, width), keys, values, scale=scaling)
    found = found.view(len(by_key), num_rows, -1, width).transpose(0, 1)
    mass = mass.view(len(by_key), num_rows, -1).transpose(0, 1)
    return found.reshape(query.shape), mass.reshape(query.shape[:3])


def _merged(first: Attended, second: Attended) -> Tensor:
    """Return what is found in both parts of the positions, by the masses of their softmax."""
    (found, mass), (others, other_mass) = first, second
    share = torch.sigmoid(mass - other_mass)[..., None]
    return torch.lerp(others.float(), found.float(), share).to(found.dtype)
