r"""The hidden Markov model with finitely many states and symbols, solved by forward recursion.

$$x_0 \sim \pi, \qquad P(x_t = j \mid x_{t-1} = i) = A_{ij}, \qquad
P(y_t = s \mid x_t = i) = B_{is}.$$

Reference: Rabiner (1989). A tutorial on hidden Markov models.
"""

from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.errors import InputError


class HiddenMarkov(StateSpaceModel):
    """A hidden Markov model with states `[N]` out of K and observations out of M symbols.

    >>> model = HiddenMarkov([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[1.0, 0.0], [0.0, 1.0]])
    >>> round(2.718281828 ** model.log_evidence([0, 0, 1]), 3)  # 0.5 * 0.9 * 0.1
    0.045
    """

    def __init__(self, initial: Any, transition_matrix: Any, observation_matrix: Any) -> None:
        """Create the model from the law `[K]` and the tables `[K, K]` and `[K, M]`."""
        self.initial_probabilities = _probabilities("initial", initial, 1)
        self.transition_matrix = _probabilities("transition_matrix", transition_matrix, 2)
        self.observation_matrix = _probabilities("observation_matrix", observation_matrix, 2)
        size = len(self.initial_probabilities)
        if self.transition_matrix.shape != (size, size) or len(self.observation_matrix) != size:
            raise InputError(
                "The tables have one row for each state. Got shapes "
                f"{tuple(self.transition_matrix.shape)} and {tuple(self.observation_matrix.shape)} "
                f"for {size} states; accepted: ({size}, {size}) and ({size}, M)."
            )

    def initial(self) -> Any:
        """Return the distribution of x_0."""
        return dist.Categorical(self.initial_probabilities)

    def transition(self, t: int, previous: Int64[Tensor, " N"]) -> Any:
        """Return the distribution of x_t."""
        return dist.Categorical(self.transition_matrix[previous])

    def observation(self, t: int, state: Int64[Tensor, " N"]) -> Any:
        """Return the distribution of y_t."""
        return dist.Categorical(self.observation_matrix[state])

    def log_evidence(self, observations: Observations) -> float:
        """Return log p(y_0, ..., y_{T-1})."""
        return self._forward(observations)[0]

    def filter(self, observations: Observations) -> Float64[Tensor, "T K"]:
        """Return the probabilities of the states x_t given y_0, ..., y_t."""
        return self._forward(observations)[1]

    def smoother(self, observations: Observations) -> Float64[Tensor, "T K"]:
        """Return the probabilities of the states x_t given all observations."""
        smoothed = list(self.filter(observations))
        for t in reversed(range(len(smoothed) - 1)):
            predicted = smoothed[t] @ self.transition_matrix
            ratio = torch.where(predicted > 0, smoothed[t + 1] / predicted, 0.0)
            smoothed[t] = smoothed[t] * (self.transition_matrix @ ratio)
        return torch.stack(smoothed)

    def _forward(self, observations: Observations) -> tuple[float, Float64[Tensor, "T K"]]:
        law, log_evidence, filtered = self.initial_probabilities, 0.0, []
        for t, y in enumerate(observations):
            if t > 0:
                law = law @ self.transition_matrix
            if y is not None:
                num_symbols = self.observation_matrix.shape[1]
                if not 0 <= int(y) < num_symbols:
                    raise InputError(
                        f"The observation of step {t} is no symbol. Got {y!r}; accepted: 0 to "
                        f"{num_symbols - 1}, or None where it is missing."
                    )
                joint = law * self.observation_matrix[:, int(y)]
                total = joint.sum()
                log_evidence += float(total.log())
                law = joint / total if total > 0 else joint
            filtered.append(law)
        return log_evidence, torch.stack(filtered)


def _probabilities(name: str, values: Any, num_dims: int) -> Tensor:
    table = torch.as_tensor(values, dtype=torch.float64)
    if table.dim() != num_dims or not (table >= 0).all():
        raise InputError(f"{name} is a table of probabilities. Got {values!r}.")
    if not torch.allclose(table.sum(-1), torch.ones(table.shape[:-1], dtype=torch.float64)):
        raise InputError(f"The rows of {name} sum to one. Got sums {table.sum(-1).tolist()}.")
    return table
