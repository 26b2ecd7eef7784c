"""What a probe reads of a policy at each token.

Shapes: R places, D width of the hidden states, V vocabulary, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from llmsmc.models.rewards.probe.pooling import NUM_SURPRISES


def surprises(log_probs: Float[Tensor, "R V"]) -> Float[Tensor, "R 2"]:
    """Return the entropy of each law, in nats, and the log of its largest probability."""
    entropy = -torch.nan_to_num(log_probs.exp() * log_probs).sum(-1)
    return torch.stack([entropy, log_probs.amax(-1)], dim=-1)


@dataclass(frozen=True, eq=False)
class RawReadout:
    """The hidden states of some layers as they are.

    Attributes:
        layers: the numbers of the layers; 0 for the embeddings.
        width: the width of the hidden states.
    """

    layers: tuple[int, ...]
    width: int

    @property
    def size(self) -> int:
        """The number of features."""
        return NUM_SURPRISES + self.width * len(self.layers)

    def features(
        self, states: Sequence[Float[Tensor, "R D"]], log_probs: Float[Tensor, "R V"]
    ) -> Float[Tensor, "R F"]:
        """Return the features of the tokens that are drawn from R places."""
        read = [states[layer].float() for layer in self.layers]
        return torch.cat([surprises(log_probs), *read], dim=-1)


@dataclass(frozen=True, eq=False)
class ProjectedReadout:
    """The hidden states of some layers, projected to a few numbers each.

    Attributes:
        layers: the numbers of the layers; 0 for the embeddings.
        centres: the mean of the hidden states of each layer.
        bases: the directions onto which they are projected.
    """

    layers: tuple[int, ...]
    centres: Float[Tensor, "layers D"]
    bases: Float[Tensor, "layers D rank"]

    @property
    def size(self) -> int:
        """The number of features."""
        return NUM_SURPRISES + self.bases.shape[2] * len(self.layers)

    def features(
        self, states: Sequence[Float[Tensor, "R D"]], log_probs: Float[Tensor, "R V"]
    ) -> Float[Tensor, "R F"]:
        """Return the features of the tokens that are drawn from R places."""
        read = torch.stack([states[layer].float() for layer in self.layers])
        projected = torch.baddbmm(-self.centres[:, None] @ self.bases, read, self.bases)
        return torch.cat([surprises(log_probs), *projected], dim=-1)
