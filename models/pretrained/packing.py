"""Linear layers whose weights lie in the tiles in which oneDNN multiplies them.

Where plain weights in bfloat16 are multiplied on a processor, they are copied into tiles at each
call. With the few rows of a step that is drawn, the copy takes longer than the product. Here it is
made once; the numbers that come out are the same bit for bit.

Output embeddings that are tied to the input embeddings become a copy of them, as rows are looked up
in plain weights only. The copy is a buffer: it is no parameter of the network.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from llmsmc.models.pretrained.precision import computes_in_bfloat16

_ROWS: Final = 64  # for which oneDNN chooses the tiles; those of other numbers are the same


class PackedLinear(nn.Module):
    """A linear layer, without gradients for its weights.

    Attributes:
        weight: [out, in], in the layout of oneDNN; `to_dense` gives the plain weights back.
        bias: [out], or None.
    """

    weight: Tensor

    def __init__(self, plain: nn.Linear, *, is_copy: bool = False) -> None:
        """Pack the weights of a layer that `is_packable`; as a copy if they stay elsewhere, too."""
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), _ROWS)
        if is_copy:
            self.register_buffer("weight", packed, persistent=False)
        else:
            self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = plain.bias

    def forward(self, rows: Float[Tensor, "*B in"]) -> Float[Tensor, "*B out"]:
        """Return the product, and add the bias."""
        if torch.is_grad_enabled() and rows.requires_grad:  # of which the kernel knows nothing
            return linear(rows, self.weight.to_dense(), self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.weight, self.bias, "none", [], ""
        )
        return product

    def unpacked(self) -> nn.Linear:
        """Return the layer with plain weights."""
        plain = nn.Linear(
            self.weight.shape[1], self.weight.shape[0], self.bias is not None, device="meta"
        )
        plain.weight = nn.Parameter(self.weight.to_dense(), requires_grad=False)
        plain.bias = self.bias
        return plain.train(self.training)


def pack(model: nn.Module) -> None:
    """Pack the linear layers of a network that gain by it, one after the other."""
    looked_up = [each.weight for each in model.modules() if isinstance(each, nn.Embedding)]
    for name, layer in list(model.named_modules()):
        if is_packable(layer):
            is_copy = any(layer.weight is weight for weight in looked_up)
            packed = PackedLinear(layer, is_copy=is_copy)
            model.set_submodule(name, packed.train(layer.training))


def unpack(model: nn.Module) -> None:
    """Give the linear layers of a network their plain weights back; tied embeddings are tied."""
    was_tied = False
    for name, layer in list(model.named_modules()):
        if isinstance(layer, PackedLinear):
            was_tied |= "weight" not in layer._parameters
            model.set_submodule(name, layer.unpacked())
    tie = getattr(model, "tie_weights", None)
    if was_tied and tie is not None:  # rounded output embeddings stay a copy
        tie()


def is_packable(layer: nn.Module) -> bool:
    """Return whether a layer has plain weights in bfloat16 on a processor that multiplies so."""
    return (
        type(layer) is nn.Linear
        and layer.weight.dtype is torch.bfloat16
        and layer.weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and computes_in_bfloat16()
    )
