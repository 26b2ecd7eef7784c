r"""The Srinivasan sampling process: offspring are rounded down or up, negatively associated.

Take two particles whose expected numbers of offspring are not integers. Moving mass between them,
up or down at random so that both keep their expectations, makes one of the numbers an integer; the
other particle goes on to the next pair. The pairs form a knock-out tournament, whose rounds are
vectorised.

References:
    1. Srinivasan (2001). Distributions on level-sets with applications to approximation
       algorithms.
    2. Gerber, Chopin, Whiteley (2019). Negative association, ordering and convergence of
       resampling methods, algorithm 1.
"""

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from llmsmc.core.weights import scaled
from llmsmc.inference.resampling.scheme import Resampled, Scheme, equally_weighted, uniforms


def ssp_single(
    log_weights: Float64[Tensor, " N"], *, generator: Generator, num_offspring: int | None = None
) -> Resampled:
    r"""Give particle n $\lfloor M W^n \rfloor$ or $\lceil M W^n \rceil$ offspring."""
    weights = scaled(log_weights)
    size = num_offspring or len(weights)
    expected = weights * size / weights.sum()
    whole = expected.floor()
    fractions = expected - whole
    players = fractions.nonzero().squeeze(1)
    while len(players) > 1:
        bye = players[len(players) // 2 * 2 :]
        first, second = players[0 : len(players) - len(bye) : 2], players[1::2]
        a, b = fractions[first], fractions[second]
        total = a + b
        up = total > 1  # then one of the two becomes one, otherwise one becomes zero
        # The probability that `first` receives the mass.
        chance = torch.where(up, (1 - b) / (2 - total), a / total)
        first_wins = uniforms(len(first), generator) < chance
        winner = torch.where(first_wins, first, second)
        loser = torch.where(first_wins, second, first)
        fractions[winner] = torch.where(up, 1.0, total)
        fractions[loser] = torch.where(up, total - 1, 0.0)
        players = torch.cat([torch.where(up, loser, winner), bye])
    copies = (whole + fractions.round()).long()
    return equally_weighted(torch.arange(len(weights)).repeat_interleave(copies), log_weights)


ssp = Scheme("ssp", single=ssp_single, is_even=True)
r"""Give particle n $\lfloor M W^n \rfloor$ or $\lceil M W^n \rceil$ offspring."""
