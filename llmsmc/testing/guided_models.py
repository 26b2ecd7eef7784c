"""Exactly solvable models that can do all that an algorithm may ask of a model."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Generator, Tensor

from llmsmc.core.state_space_model import Observations
from llmsmc.models import HiddenMarkov, LinearGaussian, TabularLanguageModel


class GuidedTable(TabularLanguageModel):
    """Tokens from other tables than those of the language; guesses that are wrong but positive."""

    log_proposals: list[Tensor]

    @classmethod
    def of(cls, model: TabularLanguageModel, proposals: list[Any]) -> "GuidedTable":
        """Return the model with a table of proposals for each token, `[V**t, V]`."""
        guided = cls(
            [table.exp() for table in model.log_transitions],
            [table.exp() for table in model.log_potentials],
            eos=model.eos,
        )
        guided.log_proposals = [torch.as_tensor(table).double().log() for table in proposals]
        return guided

    def propose(
        self, t: int, previous: Any, y: Any, num_particles: int, *, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw token number t from its table."""
        previous = self._empty(num_particles) if previous is None else previous
        law = self.log_proposals[t][self._codes(previous, t)]
        token = law.exp().multinomial(1, generator=generator)
        state = previous.clone()
        state[:, t] = token[:, 0]
        log_ratio = self.log_transitions[t][self._codes(previous, t)] - law
        return state, log_ratio.gather(1, token)[:, 0]

    def log_lookahead(self, t: int, state: Tensor, y: Any) -> Tensor:
        """Return some number."""
        return torch.sin(3.0 * self._codes(state, t + 1))

    def log_twist(self, t: int, state: Tensor, observations: Observations | None) -> Tensor:
        """Return another one."""
        return 1 + 0.5 * torch.cos(5.0 * self._codes(state, t + 1))


class GuidedLinearGaussian(LinearGaussian):
    """The proposal is the law of x_t given x_{t-1} and y_t, the lookahead that of y_t."""

    def proposal(self, t: int, previous: Any, y: Any) -> Any:
        """Return the distribution of x_t given x_{t-1} and y_t."""
        mean, covariance = self._prior(previous)
        if y is None:
            return dist.MultivariateNormal(mean, covariance)
        h, noise = self.observation_matrix, self.observation_covariance
        gain = covariance @ h.T @ torch.linalg.inv(h @ covariance @ h.T + noise)
        residual = torch.as_tensor(y) - mean @ h.T
        rest = covariance - gain @ h @ covariance
        return dist.MultivariateNormal(mean + residual @ gain.T, (rest + rest.T) / 2)

    def log_lookahead(self, t: int, state: Tensor, y: Any) -> Tensor:
        """Return the log-density of y_{t+1} given x_t."""
        if y is None:
            return torch.zeros(len(state))
        mean, covariance = self._prior(state)
        h, noise = self.observation_matrix, self.observation_covariance
        law = dist.MultivariateNormal(mean @ h.T, h @ covariance @ h.T + noise)
        density: Tensor = law.log_prob(torch.as_tensor(y))
        return density

    def log_twist(self, t: int, state: Tensor, observations: Observations | None) -> Tensor:
        """Return the same: the next observation only."""
        assert observations is not None
        return self.log_lookahead(t, state, observations[t + 1])

    def _prior(self, previous: Any) -> tuple[Tensor, Tensor]:
        if previous is None:
            return self.initial_mean, self.initial_covariance
        return previous @ self.transition_matrix.T, self.transition_covariance


class GuidedHiddenMarkov(HiddenMarkov):
    """The proposal is the law of x_t given x_{t-1} and y_t, the lookahead that of y_t."""

    def proposal(self, t: int, previous: Any, y: Any) -> Any:
        """Return the distribution of x_t given x_{t-1} and y_t."""
        law = self.initial_probabilities if previous is None else self.transition_matrix[previous]
        return dist.Categorical(law if y is None else law * self.observation_matrix[:, int(y)])

    def log_lookahead(self, t: int, state: Tensor, y: Any) -> Tensor:
        """Return the log-probability of y_{t+1} given x_t."""
        if y is None:
            return torch.zeros(len(state))
        return (self.transition_matrix @ self.observation_matrix[:, int(y)]).log()[state]

    def log_twist(self, t: int, state: Tensor, observations: Observations | None) -> Tensor:
        """Return the same: the next observation only."""
        assert observations is not None
        return self.log_lookahead(t, state, observations[t + 1])
