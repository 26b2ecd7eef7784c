"""Instances with known answers."""

from typing import Final

import numpy as np

from llmsmc.models import LinearGaussian, TabularLanguageModel
from llmsmc.testing.instances import language_with_eos as language_with_eos
from llmsmc.testing.instances import table_without_end as table_without_end

WALK: Final = {
    "initial_mean": 0.5,
    "initial_covariance": 1.0,
    "transition_matrix": 0.9,
    "transition_covariance": 0.3,
    "observation_matrix": 1.2,
    "observation_covariance": 0.2,
}
WALK_OBSERVATIONS: Final = [[0.3], [1.8], [-0.4], [0.9]]


def walk() -> LinearGaussian:
    """A random walk on the line, observed four times: `WALK_OBSERVATIONS`."""
    return LinearGaussian(**WALK)


TABLE_INSTANCE_EVIDENCE = 0.0605062


def early_stopper(length: int) -> TabularLanguageModel:
    """Toy A: A ends at once, B after `length` forced steps; prefixes of A score .6, of B .5."""
    return TabularLanguageModel.from_functions(
        2,
        length,
        next_token=lambda prefix: [0.0, 1.0] if prefix else [0.5, 0.5],
        potential=lambda prefix: 0.6 if prefix[0] == 0 else 0.5,
        eos=0,
    )


def independent_steps() -> TabularLanguageModel:
    """Toy D: three independent steps, Z = .46 ** 3."""
    return TabularLanguageModel.from_functions(
        6,
        3,
        next_token=lambda prefix: [0.4, 0.25, 0.15, 0.1, 0.06, 0.04],
        potential=lambda prefix: (0.05, 0.2, 0.4, 0.8, 1.5, 4.0)[prefix[-1]],
    )


def prefix_scores() -> TabularLanguageModel:
    """Toy B: 19 sequences; the score of a prefix is the geometric mean of the values of its steps.

    Symbols a, b and c with probabilities .5, .3 and .2 and values .3, .6 and .7; c as the first one
    ends the answer (token 3), all others have three. Z = .484258, P("c") = .2891.
    """
    values = (0.3, 0.6, 0.7, 0.7)

    def score(prefix: tuple[int, ...]) -> float:
        return float(np.prod([values[token] for token in prefix]) ** (1 / max(len(prefix), 1)))

    return TabularLanguageModel.from_functions(
        4,
        3,
        next_token=lambda prefix: [0.5, 0.3, 0.2, 0.0] if prefix else [0.5, 0.3, 0.0, 0.2],
        potential=lambda prefix: score(prefix) / score(prefix[:-1]),
        eos=3,
    )
