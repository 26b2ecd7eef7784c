"""Attention in which query heads share keys and values without copies of them.

Where several new tokens are fed under a mask, as when steps are scored, transformers copies keys
and values once for each query head that shares them: its fused kernels for CUDA ask for that. Those
for CPUs do not, and give the same numbers bit for bit.
"""

from typing import Any, Final

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME: Final = "llmsmc_sdpa"


def use_grouped_attention(model: Any) -> None:
    """Let a model attend so if it is on a CPU and would use the fused kernels of torch."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, grouped_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
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
        settings: whatever else the layer says.
    """
    others = [
        name for name in ("position_bias", "softcap", "cache") if settings.get(name) is not None
    ]
    if attention_mask is None or others or query.shape[2] == 1 or query.device.type != "cpu":
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **settings
        )
        return found
    output = scaled_dot_product_attention(
        query, key, value, attention_mask, dropout, scale=scaling, enable_gqa=True
    )
    return output.transpose(1, 2).contiguous(), None
