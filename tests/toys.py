"""Instances with known answers."""

from typing import Final

import numpy as np

from llmsmc.models import LinearGaussian, TabularLanguageModel

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


def table_instance() -> TabularLanguageModel:
    """Three words, four tokens, no EOS: 81 sequences, every prefix with a law of its own."""
    generator = np.random.default_rng(42)
    size, length = 3, 4
    laws = [generator.dirichlet(np.ones(size), size=size**t) for t in range(length)]
    for law in laws:
        generator.dirichlet(np.ones(size), size=law.shape[0])  # the proposals of other tests
    scores = [0.05 + 0.95 * generator.beta(0.6, 0.6, size=size ** (t + 1)) for t in range(length)]
    return TabularLanguageModel(laws, scores)


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


def language_with_eos() -> TabularLanguageModel:
    """Toy F: two words and EOS at ragged lengths; four tokens without EOS weigh nothing.

    Z = 6.904838, P("bbb") = .4849, P("bb") = .1968.
    """
    a, b, eos = 0, 1, 2

    def next_token(prefix: tuple[int, ...]) -> list[float]:
        end = (0.1, 0.3, 0.4, 0.5)[len(prefix)] if len(prefix) < 4 else 1.0
        again = 0.7 if not prefix or prefix[-1] == a else 0.4
        return [(1 - end) * again, (1 - end) * (1 - again), end]

    def twist(prefix: tuple[int, ...]) -> float:
        words = [token for token in prefix if token != eos]
        if eos in prefix:
            return float(np.exp(2 * words.count(b) - 0.3 * len(words) - 1.5 * (not words)))
        if len(words) == 4:
            return 0.0
        return float(np.exp(1.3 * words.count(b) - 0.5 * len(words))) if words else 1.0

    def potential(prefix: tuple[int, ...]) -> float:
        before = twist(prefix[:-1])
        return twist(prefix) / before if before else 0.0

    return TabularLanguageModel.from_functions(
        3, 4, next_token=next_token, potential=potential, eos=eos
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
