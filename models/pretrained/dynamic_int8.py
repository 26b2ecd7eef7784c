r"""Linear layers with weights in 8 bits, and rows that are rounded as they come.

$$y_o = s\,t_o \sum_i q_i\,w_{oi} + c_o, \qquad q_i = \mathrm{round}(x_i / s)$$

with whole numbers q and w of at most 127, a scale t of each output, made once, and a scale s of
each row x that is fed. The sum is exact in 32 bits: what comes of a row depends on no other row.

The kernel of oneDNN takes q + 128, which has no sign, and takes the rest off again. Signed numbers
it multiplies one by one on processors without AMX, hundreds of times as slowly. Processors without
VNNI add up in 16 bits, and saturate; they are refused.
"""

from typing import Any, Final

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor, nn
from torch.nn.functional import linear

from llmsmc.errors import InputError

NAME: Final = "int8-dynamic"

NARROW: Final = 256
"""Inputs or outputs below which a layer is left as it is: rounding would take what is gained."""

_INSTRUCTIONS: Final = ("avx512_vnni", "avx_vnni", "amx_int8")
_LARGEST: Final = 127  # of a weight
_LARGEST_FED: Final = 126  # of a number of a row, whose scale may be rounded down to bfloat16
_LEAST_SCALE: Final = 1e-30  # of rows of zeros
_ZERO: Final = 128  # where the numbers of a row without signs have their zero
_AT_A_TIME: Final = 2**22  # weights that are rounded


class DynamicInt8Linear(nn.Module):
    """A linear layer in 8 bits, without gradients for its weights.

    Attributes:
        weight: [in, out], whole numbers in the layout of oneDNN.
        scale: [out], what one of them stands for.
        bias: [out], or None.
    """

    weight: Tensor
    scale: Tensor
    zeros: Tensor

    def __init__(self, plain: nn.Linear, *, is_copy: bool = False) -> None:
        """Round the weights of a layer; as a copy if they stay elsewhere, too."""
        super().__init__()
        numbers, scale = rounded(plain.weight.detach())
        packed = torch.ops.onednn.qlinear_prepack(numbers, None)
        if is_copy:
            self.register_buffer("weight", packed, persistent=False)
        else:
            self.weight = nn.Parameter(packed, requires_grad=False)
        self.register_buffer("scale", scale)
        zeros = torch.zeros(len(scale), dtype=torch.int32)
        self.register_buffer("zeros", zeros, persistent=False)
        self.bias = plain.bias

    def forward(self, rows: Float[Tensor, "*B in"]) -> Float[Tensor, "*B out"]:
        """Return the product, and add the bias."""
        if torch.is_grad_enabled() and rows.requires_grad:  # of which the kernel knows nothing
            return linear(rows, self.dense().to(rows.dtype), self.bias)
        scale = rows.abs().amax(-1, keepdim=True).div_(_LARGEST_FED).clamp_min_(_LEAST_SCALE)
        numbers = rows.div(scale.float()).round_().to(torch.int8)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            numbers.view(torch.uint8).bitwise_xor_(_ZERO),  # adds it
            *(1.0, _ZERO),
            *(self.weight, self.scale, self.zeros),
            None,
            *(1.0, 0, rows.dtype),
            *("none", [], ""),
        )
        product = product.view(*rows.shape[:-1], len(self.scale))
        if self.bias is None:
            return product.mul_(scale)
        return torch.addcmul(self.bias, product, scale)

    def dense(self) -> Float32[Tensor, "out in"]:
        """Return the weights that the numbers stand for."""
        return self.weight.to_dense().T * self.scale[:, None]


def rounded(
    weights: Float[Tensor, "out in"],
) -> tuple[Int8[Tensor, "out in"], Float32[Tensor, " out"]]:
    """Return the whole numbers that are nearest to weights, and what one of each row stands for."""
    scale = weights.abs().amax(-1).float().div_(_LARGEST).clamp_min_(_LEAST_SCALE)
    numbers = torch.empty(weights.shape, dtype=torch.int8)
    count = max(1, _AT_A_TIME // weights.shape[1])  # as single precision takes four times the room
    for start in range(0, len(weights), count):
        part = slice(start, start + count)
        numbers[part] = weights[part].div(scale[part, None]).round_()
    return numbers, scale


def round_layers(model: nn.Module) -> None:
    """Round the linear layers of a network that gain by it, one after the other.

    Output embeddings are rounded where they are tied, as a copy: without ties they stay as they
    are, so that a policy is known by them (`llmsmc.models.policies.fingerprint`).

    Raises:
        InputError: there is no such layer.
    """
    network: Any = model
    looked_up = [each.weight for each in model.modules() if isinstance(each, nn.Embedding)]
    head = network.get_output_embeddings()
    for name, layer in list(model.named_modules()):
        if type(layer) is not nn.Linear or min(layer.weight.shape) < NARROW:
            continue
        is_copy = any(layer.weight is weight for weight in looked_up)
        if layer is not head or is_copy:
            layer_in_8_bits = DynamicInt8Linear(layer, is_copy=is_copy)
            model.set_submodule(name, layer_in_8_bits.train(layer.training))
    if not any(isinstance(each, DynamicInt8Linear) for each in model.modules()):
        raise InputError(
            f"quantization={NAME!r} is for wide layers. Got {type(model).__name__} with no plain "
            f"layer of at least {NARROW} inputs and outputs; accepted: a larger model, or another "
            "quantization."
        )


def require_dynamic_int8(
    device: torch.device, dtype: torch.dtype | str, *, is_spread: bool
) -> None:
    """Raise `InputError` where layers with rows that are rounded as they come cannot be computed.

    Args:
        device: the device of the model.
        dtype: the precision of everything else.
        is_spread: whether the model is spread over devices.
    """
    if is_spread or device.type != "cpu":
        got, accepted = "a device_map" if is_spread else f"the device {device}", "device='cpu'"
    elif not multiplies_in_int8():
        got = "a processor without instructions for it"
        accepted = "a processor with AVX-512 VNNI, AVX-VNNI or AMX"
    elif dtype not in (torch.float32, torch.bfloat16):
        got, accepted = f"dtype {dtype}", "dtype 'float32' or 'bfloat16'"
    else:
        return
    raise InputError(
        f"quantization={NAME!r} is for processors that multiply in 8 bits. Got {got}; accepted: "
        f"{accepted}, or another quantization."
    )


def multiplies_in_int8() -> bool:
    """Return whether this processor adds up products in 8 bits exactly, by a fast kernel."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    known = any(capabilities.get(name) for name in _INSTRUCTIONS)
    return known and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
