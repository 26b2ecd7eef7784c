"""The network of a probe: a few small perceptrons over what is known of a step.

The hidden states are projected, once and for all, onto the directions in which they differ most
over the steps of the training set (`llmsmc.models.rewards.probe.learning`).
What is known of a step that ends its solution stands once more in places of its own, which are zero
for all others: what tells that a solution has ended right is not what promises that it will.

Shapes: M steps, P perceptrons, I inputs, S numbers without hidden states, rank of a projection.
"""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

PERCEPTRONS: Final = 4
_DROPOUT: Final = 0.2
_LEAST: Final = 1e-6  # of the largest variance
_CLIP: Final = 8.0  # standard deviations, beyond which an input says no more


class Judge(nn.Module):
    """From what is known of a step to its log-odds.

    Attributes:
        widths: of the hidden layers of each perceptron.
        centre: the mean of each input over the steps of the training set.
        spread: its standard deviation.
        used: one for each input that is looked at, zero for the others.
        temperature: by which log-odds are divided.
    """

    centre: Tensor
    spread: Tensor
    used: Tensor
    temperature: Tensor

    def __init__(
        self, num_inputs: int, widths: Sequence[int] = (), perceptrons: int = PERCEPTRONS
    ) -> None:
        """Make a judge that has learnt nothing, with hidden layers of these widths."""
        super().__init__()
        self.widths = tuple(widths)
        self.register_buffer("centre", torch.zeros(num_inputs))
        self.register_buffer("spread", torch.ones(num_inputs))
        self.register_buffer("used", torch.ones(num_inputs))
        self.register_buffer("temperature", torch.ones(()))
        self.members = nn.ModuleList(
            _perceptron(2 * num_inputs + 1, self.widths) for _ in range(perceptrons)
        )

    def forward(
        self, inputs: Float[Tensor, "M I"], is_end: Bool[Tensor, " M"]
    ) -> Float[Tensor, " M"]:
        """Return the log-odds of the steps, some of which end their solutions."""
        told = self.told(inputs, is_end)
        votes = torch.stack([member(told).squeeze(-1) for member in self.members])
        log_odds: Tensor = votes.mean(0) / self.temperature
        return log_odds

    def told(
        self, inputs: Float[Tensor, "M I"], is_end: Bool[Tensor, " M"]
    ) -> Float[Tensor, "M 2*I+1"]:
        """Return what each perceptron is told.

        The inputs, in standard deviations from their mean, and zero where one is not used; whether
        the step ends its solution; and the inputs once more if it does.
        """
        scaled = self.used * ((inputs - self.centre) / self.spread).clamp(-_CLIP, _CLIP)
        ends = is_end[:, None].to(scaled)
        return torch.cat([scaled, ends, ends * scaled], dim=1)


def _perceptron(num_inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Return a perceptron with hidden layers of these widths."""
    sizes = [num_inputs, *widths]
    hidden = [
        [nn.Dropout(_DROPOUT), nn.Linear(before, width), nn.GELU()]
        for before, width in pairwise(sizes)
    ]
    last = [nn.Dropout(_DROPOUT), nn.Linear(sizes[-1], 1)]
    return nn.Sequential(*chain.from_iterable([*hidden, last]))


def principal_directions(states: Float[Tensor, "M D"], rank: int) -> tuple[Tensor, Tensor]:
    """Return the mean, and the directions in which the states differ most, in units of spread.

    Each component is measured in its own spread first, as a few of them are far larger than all
    others in many language models.
    """
    centre, spread = states.mean(0), states.std(0).double()
    spread = spread.clamp(min=max(float(spread.median()) * 1e-3, 1e-12))
    scaled = (states - centre) / spread
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(states))
    kept = slice(-min(rank, states.shape[1]), None)
    # What hardly varies is left small, as it would only magnify rounding.
    lengths = values[kept].clamp(min=_LEAST * float(values[-1])).sqrt()
    basis = vectors[:, kept] / lengths / spread[:, None]
    return centre, basis.float().flip(-1).contiguous()
