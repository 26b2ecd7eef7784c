"""The posterior of a parameter, four ways: a grid, PMMH, SMC squared, and NUTS by way of Pyro.

    python -m benchmarks.parameters --runs 4

prints a table in Markdown. The model is a local level whose drift is unknown; the grid has its
exact posterior by the Kalman filter. The other rows are means over independent runs, each with its
standard error and, in parentheses, how many standard errors it is off. NUTS runs on `to_pyro` of
the model, and draws the states as well.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any, Final

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from llmsmc import Posterior, StateSpaceModel
from llmsmc.inference import SMC2, BootstrapFilter, ParticleMarginalMetropolisHastings
from llmsmc.models import LinearGaussian, to_pyro

OBSERVATIONS: Final = [0.4, 1.1, 0.3, 1.9, 2.5, 2.0, 3.4, 2.8]
PRIOR: Final = {"drift": dist.Gamma(2.0, 3.0)}
LEVELS: Final = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
COLUMNS: Final = ("mean", "standard deviation", "5 %", "50 %", "95 %")


class LocalLevel(StateSpaceModel):
    """A level that drifts by an unknown amount from step to step."""

    drift: Any = 0.5

    def initial(self) -> Any:
        """Return the law of x_0."""
        return dist.Normal(0.0, 1.0)

    def transition(self, t: int, previous: Tensor) -> Any:
        """Return the law of x_t."""
        return dist.Normal(previous, self.drift)

    def observation(self, t: int, state: Tensor) -> Any:
        """Return the law of y_t."""
        return dist.Normal(state, 0.7)


def exact(num_points: int = 1200) -> Tensor:
    """Return the statistics of the exact posterior, on a grid."""
    grid = torch.linspace(0.005, 6.0, num_points, dtype=torch.float64)
    log_evidence = [
        LinearGaussian(
            initial_mean=0.0,
            initial_covariance=1.0,
            transition_matrix=1.0,
            transition_covariance=float(drift) ** 2,
            observation_matrix=1.0,
            observation_covariance=0.49,
        ).log_evidence(OBSERVATIONS)
        for drift in grid
    ]
    joint = PRIOR["drift"].log_prob(grid) + torch.tensor(log_evidence, dtype=torch.float64)
    return statistics(grid, joint.softmax(0))


def statistics(values: Tensor, probabilities: Tensor) -> Tensor:
    """Return mean, standard deviation and quantiles of weighted values `[M]`."""
    mean = probabilities @ values
    spread = (probabilities @ (values - mean).square()).sqrt()
    order = values.argsort()
    below = probabilities[order].cumsum(0)
    places = torch.searchsorted(below, LEVELS).clamp(max=len(values) - 1)
    return torch.cat([torch.stack([mean, spread]), values[order][places]])


def of_posterior(posterior: Posterior) -> Tensor:
    """Return the statistics of the drift in a posterior of parameters."""
    return statistics(posterior.particles["drift"], posterior.log_weights.softmax(0))


def pmmh(seed: int, num_iterations: int = 1000) -> Tensor:
    """Return what a chain of particle marginal Metropolis-Hastings finds."""
    inner = BootstrapFilter(20, record=False)
    algorithm = ParticleMarginalMetropolisHastings(PRIOR, num_iterations, 200, inner)
    return of_posterior(algorithm.run(LocalLevel(), OBSERVATIONS, seed=seed))


def smc_squared(seed: int, num_parameters: int = 200) -> Tensor:
    """Return what SMC squared finds."""
    algorithm = SMC2(PRIOR, num_parameters, 20, num_moves=2)
    return of_posterior(algorithm.run(LocalLevel(), OBSERVATIONS, seed=seed))


def nuts(seed: int, num_samples: int = 400) -> Tensor:
    """Return what NUTS finds, on parameter and states together."""
    values = draws_of_nuts(seed, num_samples)
    return statistics(values, torch.full((len(values),), 1 / len(values), dtype=torch.float64))


def draws_of_nuts(seed: int, num_samples: int) -> Tensor:
    """Return draws of the drift."""
    pyro.set_rng_seed(seed)
    program = to_pyro(LocalLevel(), OBSERVATIONS, prior=PRIOR)
    kernel = NUTS(program, jit_compile=True, ignore_jit_warnings=True)
    chain = MCMC(kernel, num_samples, warmup_steps=150, disable_progbar=True)
    chain.run()
    values: Tensor = chain.get_samples()["drift"].double()
    return values


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=4)
    arguments = parser.parse_args()
    truth = exact()
    print(f"| | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    print(f"| grid, exact | {' | '.join(f'{value:.4f}' for value in truth.tolist())} |")
    methods: dict[str, Callable[[int], Tensor]] = {
        "PMMH, 1,000 iterations": pmmh,
        "SMC squared, 200 parameters": smc_squared,
        "NUTS on `to_pyro`, 400 draws": nuts,
    }
    for name, method in methods.items():
        found = torch.stack([method(seed) for seed in range(arguments.runs)])
        means, errors = found.mean(0), found.std(0) / math.sqrt(arguments.runs)
        cells = [
            f"{mean:.4f} ± {error:.4f} ({(mean - right) / error:+.1f})"
            for mean, error, right in zip(
                means.tolist(), errors.tolist(), truth.tolist(), strict=True
            )
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
