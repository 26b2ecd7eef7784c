"""Smoothed means and intervals of the coalescing filter against exact ones, on discrete models.

    python -m benchmarks.coalescing --runs 1000 --particles 1000

prints a table in Markdown. For the mean of each step given all observations: by how many standard
errors that of the first 200 runs is off, for the step farthest off, and in how many of all runs the
interval of 1.96 standard errors around it holds the exact value, at the steps where that is so
least and most often. A run in which the standard error says that it is not known holds nothing. The
evidence in the same way. Then what is wrong, with 200 runs each: the filter that keeps one particle
of each state, and with it one past; and families of merged particles, whatever number of draws they
stand for.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Float64
from torch import Tensor

from llmsmc.core.genealogy import variance_of_mean_over_lags
from llmsmc.core.history import Merged
from llmsmc.core.state_space_model import Observations, StateSpaceModel
from llmsmc.inference import CoalescingFilter, multinomial, systematic
from llmsmc.inference.loop.loop import Population, Run
from llmsmc.models import HiddenMarkov, TabularLanguageModel
from llmsmc.results.posterior import Posterior
from llmsmc.testing.instances import table_without_end
from llmsmc.testing.replicates import z_scores

NUM_RUNS_OF_MEANS: Final = 200
QUANTILE: Final = 1.96


@dataclass(frozen=True, eq=False)
class Smoothing:
    """A model with known smoothed means of each step.

    Attributes:
        name: what it is.
        model: the model.
        observations: those of it; None if it needs none.
        log_evidence: the exact one.
        exact: the mean of each step given all observations.
        paths: the numbers `[N, T]` of the paths of a posterior.
    """

    name: str
    model: StateSpaceModel
    observations: Observations | None
    log_evidence: float
    exact: Float64[Tensor, " T"]
    paths: Callable[[Posterior], Tensor]


def instances() -> tuple[Smoothing, ...]:
    """Return the models: chains of two, three and five states, and a language of three words."""
    return (
        chain("two states", [[0.8, 0.2], [0.3, 0.7]], [[0.7, 0.3], [0.2, 0.8]], [0, 1, 1, 0]),
        chain(
            "three states that last",
            [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]],
            [[0.6, 0.3, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]],
            [0, 0, 1, 2, 1, 2],
        ),
        chain(
            "five states",
            [
                [0.1, 0.4, 0.2, 0.2, 0.1],
                [0.3, 0.1, 0.3, 0.1, 0.2],
                [0.2, 0.2, 0.2, 0.2, 0.2],
                [0.1, 0.1, 0.2, 0.1, 0.5],
                [0.4, 0.1, 0.1, 0.3, 0.1],
            ],
            [[0.8, 0.2], [0.6, 0.4], [0.5, 0.5], [0.3, 0.7], [0.1, 0.9]],
            [0, 1, 1, 0, 0, 1, 0, 1],
        ),
        language(),
    )


def chain(name: str, transition: Any, observation: Any, symbols: list[int]) -> Smoothing:
    """Return a hidden Markov model that begins in any state."""
    size = len(transition)
    model = HiddenMarkov([1 / size] * size, transition, observation)
    states = torch.arange(size, dtype=torch.float64)
    return Smoothing(
        name,
        model,
        symbols,
        model.log_evidence(symbols),
        model.smoother(symbols) @ states,
        lambda posterior: posterior.trajectories().double(),
    )


def language() -> Smoothing:
    """Return a language of three words, each state of which is a whole path."""
    model: TabularLanguageModel = table_without_end()
    texts = model.paths()
    exact = model.log_target(texts).softmax(0) @ texts.double()
    return Smoothing(
        "a language of three words",
        model,
        None,
        model.log_evidence(),
        exact,
        lambda posterior: posterior.particles.double(),
    )


@dataclass(frozen=True, eq=False)
class Runs:
    """R independent runs on a model.

    Attributes:
        smoothing: the model.
        means: of each step in each run.
        errors: their standard errors.
        evidence: of each run, relative to the exact one.
        evidence_errors: standard errors of the logarithm.
    """

    smoothing: Smoothing
    means: Float64[Tensor, "R T"]
    errors: Float64[Tensor, "R T"]
    evidence: Float64[Tensor, " R"]
    evidence_errors: Float64[Tensor, " R"]

    def z_of_means(self) -> float:
        """Return the error of the means of the first runs at the worst step, in standard errors."""
        means = self.means[:NUM_RUNS_OF_MEANS]
        return float(z_scores(means, self.smoothing.exact).abs().max())

    def z_of_evidence(self) -> float:
        """Return the error of the mean evidence of all runs, in standard errors."""
        return float(z_scores(self.evidence[:, None], torch.ones(1))[0])

    def coverage(self) -> Float64[Tensor, " T"]:
        """Return the share of runs in which the interval of each step holds the exact mean."""
        holds = (self.means - self.smoothing.exact).abs() <= QUANTILE * self.errors
        return holds.double().mean(0)

    def coverage_of_evidence(self) -> float:
        """Return the share of runs in which the interval holds the exact log-evidence."""
        holds = self.evidence.log().abs() <= QUANTILE * self.evidence_errors
        return float(holds.double().mean())


StandardError = Callable[[Posterior, Tensor], Tensor]


def standard_error(posterior: Posterior, values: Tensor) -> Tensor:
    """Return the standard errors of the means of T functions."""
    error: Tensor = posterior.standard_error(lambda particles: values)
    return error


def run_many(
    smoothing: Smoothing,
    algorithm: CoalescingFilter,
    num_runs: int,
    standard_error: StandardError = standard_error,
) -> Runs:
    """Run the filter on a model with the seeds 0, 1, ..."""
    means, errors, evidence, evidence_errors = [], [], [], []
    for seed in range(num_runs):
        posterior = algorithm.run(smoothing.model, smoothing.observations, seed=seed)
        values = smoothing.paths(posterior)
        means.append(posterior.normalized_weights @ values)
        errors.append(standard_error(posterior, values))
        evidence.append(math.exp(posterior.log_evidence - smoothing.log_evidence))
        variance = posterior.log_evidence_variance
        evidence_errors.append(0.0 if math.isnan(variance) else variance**0.5)
    return Runs(
        smoothing,
        torch.stack(means),
        torch.stack(errors),
        torch.tensor(evidence, dtype=torch.float64),
        torch.tensor(evidence_errors, dtype=torch.float64),
    )


@dataclass(frozen=True)
class OnePast(CoalescingFilter):
    """Keep one particle of each state, with the parent of the heaviest: a known error."""

    def _coalesced(self, run: Run, population: Population) -> Population:
        merged = super()._coalesced(run, population)
        assert merged.merged is not None
        kinds = merged.merged.kinds
        firsts = torch.tensor([int((kinds == k).nonzero()[0]) for k in range(int(kinds.max()) + 1)])
        heaviest = [
            int(merged.log_weights.masked_fill(kinds != k, -torch.inf).argmax())
            for k in range(len(firsts))
        ]
        sums = torch.zeros(len(firsts), dtype=torch.float64)
        sums.index_add_(0, kinds, merged.log_weights.exp())
        counts = torch.zeros(len(firsts), dtype=torch.long)
        counts.index_add_(0, kinds, merged.merged.multiplicities)
        return replace(
            merged,
            particles=merged.particles[heaviest],
            log_weights=sums.log(),
            ancestors=merged.ancestors[heaviest],
            merged=Merged(counts, torch.arange(len(firsts)), True),
        )


def of_families(posterior: Posterior, values: Tensor) -> Tensor:
    """Take each merged particle for one draw: a known error."""
    ancestors = [record.ancestors for record in posterior.history]
    return variance_of_mean_over_lags(posterior.normalized_weights, values, ancestors).sqrt()


def row(name: str, runs: Runs) -> str:
    """Return a row of the table."""
    coverage = 100 * runs.coverage()
    return (
        f"| {runs.smoothing.name} | {name} | {runs.z_of_means():.1f} | "
        f"{float(coverage.min()):.1f} to {float(coverage.max()):.1f} % | "
        f"{runs.z_of_evidence():+.1f} | {100 * runs.coverage_of_evidence():.1f} % |"
    )


def main() -> None:
    """Run all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--particles", type=int, default=1000)
    arguments = parser.parse_args()
    size, num_runs = arguments.particles, arguments.runs
    print(
        "| model | filter | z of the means | coverage of the means | z of the evidence | "
        "coverage of the log-evidence |\n| --- | --- | --- | --- | --- | --- |"
    )
    for smoothing in instances():
        for scheme in (systematic, multinomial):
            runs = run_many(smoothing, CoalescingFilter(size, scheme), num_runs)
            print(row(scheme.name, runs), flush=True)
    few = min(num_runs, NUM_RUNS_OF_MEANS)
    for smoothing in instances()[:3]:
        runs = run_many(smoothing, CoalescingFilter(size), few, of_families)
        print(row("wrong: families of merged particles", runs), flush=True)
        print(row("wrong: one past a state", run_many(smoothing, OnePast(size), few)), flush=True)


if __name__ == "__main__":
    main()
