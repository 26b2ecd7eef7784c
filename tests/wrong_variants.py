"""Errors known from other libraries, kept so that tests can show that they reject them."""

from torch import Generator, Tensor

from llmsmc.inference.resamplers import multinomial_rows


def overwritten(weights: Tensor, parents: Tensor, generator: Generator) -> Tensor:
    """Conditional resampling by sorted ancestors, of which the first is overwritten.

    Measured in particles 0.4, `mcmc.CSMC`: the smallest of the ancestors is what gets lost.
    """
    ancestors = multinomial_rows(weights, weights.shape[1], generator).sort(1).values
    ancestors[:, 0] = parents
    return ancestors
