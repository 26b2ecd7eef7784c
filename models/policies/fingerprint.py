"""A fingerprint of a network's weights, by which what was made with a policy knows it again.

A few numbers of each tensor, rounded to bfloat16: the same for a network in single precision and in
half. Weights that bitsandbytes has quantised are left out, so that only the rest is compared.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

Fingerprints = dict[str, str | None]
"""Those of the matrices of the layers, None where they are quantised, and of everything else."""

PARTS: Final = ("layers", "others")

_NUMBERS: Final = 64  # of each tensor


def fingerprints(model: nn.Module) -> Fingerprints:
    """Return the fingerprints of the weights of a network."""
    named = sorted(model.named_parameters())
    matrices = [(name, tensor) for name, tensor in named if _in_layers(name, tensor)]
    others = [(name, tensor) for name, tensor in named if not _in_layers(name, tensor)]
    is_whole = all(tensor.is_floating_point() for _, tensor in matrices)
    return {"layers": _digest(matrices) if is_whole else None, "others": _digest(others)}


def is_same(one: Mapping[str, str | None], other: Mapping[str, str | None]) -> bool:
    """Return whether two fingerprints are those of the same weights, quantised or not."""
    is_known = None not in (one["layers"], other["layers"])
    return one["others"] == other["others"] and (not is_known or one["layers"] == other["layers"])


def _places(count: int) -> Tensor:
    """Return places from the first to the last; whole numbers, as rounded ones lie beyond it."""
    return torch.arange(_NUMBERS) * (count - 1) // (_NUMBERS - 1)


def _in_layers(name: str, tensor: Tensor) -> bool:
    return "layers." in name and name.endswith("weight") and "norm" not in name


def _digest(named: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in named:
        if not tensor.is_floating_point():
            continue
        plain = tensor.detach().to_dense() if tensor.is_mkldnn else tensor.detach()
        flat = plain.flatten()
        numbers = flat[_places(len(flat)).to(flat.device)].to(torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(numbers.cpu().numpy().tobytes())
    return digest.hexdigest()
