"""A walk on the line for particles; its numbers are arguments."""

import math

from particles import distributions, state_space_models


class Walk(state_space_models.StateSpaceModel):
    """A walk on the line; the same three laws as its own `kalman.LinearGauss`, with any numbers."""

    def PX0(self):
        """Return the law of the first state."""
        return distributions.Normal(loc=self.initial_mean, scale=math.sqrt(self.initial_covariance))

    def PX(self, t, xp):
        """Return the law of the next state."""
        return distributions.Normal(
            loc=self.transition_matrix * xp, scale=math.sqrt(self.transition_covariance)
        )

    def PY(self, t, xp, x):
        """Return the law of the observation."""
        return distributions.Normal(
            loc=self.observation_matrix * x, scale=math.sqrt(self.observation_covariance)
        )
