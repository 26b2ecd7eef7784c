"""Models whose posterior and evidence are known exactly, small enough for thousands of runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.models import TabularLanguageModel
from llmsmc.testing.guided_models import GuidedHiddenMarkov, GuidedLinearGaussian, GuidedTable


@dataclass(frozen=True, eq=False)
class Instance:
    """A model with observations and exact answers.

    Attributes:
        name: the name of the instance.
        model: the model.
        observations: the observations; None for models without.
        log_evidence: the exact log-evidence.
        statistics: K functions of N final states, `[N, K]`.
        exact: their exact expectations under the posterior, `[K]`.
    """

    name: str
    model: StateSpaceModel
    observations: Observations | None
    log_evidence: float
    statistics: Callable[[Any], Tensor]
    exact: Float64[Tensor, " K"]

    @property
    def evidence(self) -> float:
        """The exact evidence."""
        return math.exp(self.log_evidence)


def exact_instances() -> tuple[Instance, ...]:
    """Return four instances: two enumerated languages, a Kalman filter, a forward algorithm."""
    return (
        of_table("table", guided_table()),
        of_table("language with EOS", guided_language()),
        linear_gaussian(),
        hidden_markov(),
    )


def of_table(name: str, model: TabularLanguageModel) -> Instance:
    """Return an instance with the indicators of sequences as statistics, rare ones pooled.

    The mean indicator of a rare sequence has no approximate normal distribution.
    """
    paths = model.paths()
    law = model.log_target(paths).softmax(0)
    frequent, rare = law >= 0.01, law < 0.01

    def statistics(states: Tensor) -> Tensor:
        hits = (states[:, None] == paths).all(2).double()
        return torch.cat([hits[:, frequent], hits[:, rare].sum(1, keepdim=True)], dim=1)

    exact = torch.cat([law[frequent], law[rare].sum(0, keepdim=True)])
    return Instance(name, model, None, model.log_evidence(), statistics, exact)


def table_without_end() -> TabularLanguageModel:
    """Three words, four tokens, no EOS: 81 sequences, every prefix with a law of its own.

    Z = 0.0605062.
    """
    generator = np.random.default_rng(42)
    size, length = 3, 4
    laws = [generator.dirichlet(np.ones(size), size=size**t) for t in range(length)]
    for law in laws:
        generator.dirichlet(np.ones(size), size=law.shape[0])
    scores = [0.05 + 0.95 * generator.beta(0.6, 0.6, size=size ** (t + 1)) for t in range(length)]
    return TabularLanguageModel(laws, scores)


def language_with_eos() -> TabularLanguageModel:
    """Two words and EOS at ragged lengths; four tokens without EOS weigh nothing.

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
            return math.exp(2 * words.count(b) - 0.3 * len(words) - 1.5 * (not words))
        if len(words) == 4:
            return 0.0
        return math.exp(1.3 * words.count(b) - 0.5 * len(words)) if words else 1.0

    def potential(prefix: tuple[int, ...]) -> float:
        before = twist(prefix[:-1])
        return twist(prefix) / before if before else 0.0

    return TabularLanguageModel.from_functions(
        3, 4, next_token=next_token, potential=potential, eos=eos
    )


def guided_table() -> GuidedTable:
    """The table with other proposals, at least half as likely as the transitions."""
    generator, model = np.random.default_rng(5), table_without_end()
    halves = [0.5 * table.exp().numpy() for table in model.log_transitions]
    others = [0.5 * generator.dirichlet(np.ones(3), size=len(half)) for half in halves]
    return GuidedTable.of(model, [a + b for a, b in zip(halves, others, strict=True)])


def guided_language() -> GuidedTable:
    """The language with EOS, with proposals that mix in uniform tokens."""
    model = language_with_eos()
    return GuidedTable.of(model, [0.5 * t.exp() + 0.5 / 3 for t in model.log_transitions])


def linear_gaussian() -> Instance:
    """A walk in the plane, of which a mixture of both coordinates is seen; one y is missing."""
    model = GuidedLinearGaussian(
        initial_mean=[0.0, 1.0],
        initial_covariance=[[1.0, 0.2], [0.2, 0.5]],
        transition_matrix=[[0.9, 0.3], [-0.2, 0.8]],
        transition_covariance=[[0.3, 0.0], [0.0, 0.2]],
        observation_matrix=[[1.0, 0.5]],
        observation_covariance=1.5,
    )
    observations = [torch.tensor([0.3]), None, torch.tensor([1.2]), torch.tensor([-0.7])]
    filtered = model.filter(observations)
    mean, covariance = filtered.means[-1], filtered.covariances[-1]

    def statistics(states: Tensor) -> Tensor:
        states = states.double()
        return torch.stack([states[:, 0], states[:, 1], states[:, 0] * states[:, 1]], dim=1)

    exact = torch.stack([mean[0], mean[1], covariance[0, 1] + mean[0] * mean[1]])
    evidence = model.log_evidence(observations)
    return Instance("linear-Gaussian", model, observations, evidence, statistics, exact)


def hidden_markov() -> Instance:
    """Three hidden states, two symbols, five observations."""
    model = GuidedHiddenMarkov(
        [0.5, 0.3, 0.2],
        [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]],
        [[0.9, 0.1], [0.4, 0.6], [0.15, 0.85]],
    )
    observations = [0, 1, 1, 0, 1]

    def statistics(states: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(states, 3).double()

    exact = model.filter(observations)[-1]
    evidence = model.log_evidence(observations)
    return Instance("hidden Markov", model, observations, evidence, statistics, exact)
