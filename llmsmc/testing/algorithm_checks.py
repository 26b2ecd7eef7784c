"""Checks of algorithms against their guarantees, on instances with known answers.

>>> import math
>>> from dataclasses import replace
>>> from llmsmc.inference import BootstrapFilter
>>> class Doubled(BootstrapFilter):
...     def conclude(self, run, t, population):
...         return replace(population, log_weights=population.log_weights + math.log(2))
>>> check_algorithm(BootstrapFilter(8))[-1]
'the particles are properly weighted'
>>> check_algorithm(Doubled(8))  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
llmsmc.errors.AlgorithmLawError: Doubled breaks 'the evidence is unbiased' on table: ... \
standard errors off; accepted: 5.2.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from llmsmc.core.weights import log_evidence
from llmsmc.errors import AlgorithmLawError, DegenerateWeightsError, InputError
from llmsmc.inference import Algorithm
from llmsmc.results.posterior import Posterior
from llmsmc.testing.instances import Instance, exact_instances
from llmsmc.testing.replicates import last_on, replicate, run_on

MAX_Z: Final = 5.2
"""The largest deviation in standard errors that counts as random: two-sided 2e-7."""

SIZES: Final = (10, 100, 1000)
"""Numbers of particles over which a consistent algorithm has to come closer."""

Finding = tuple[str, str | None]
"""A law, and how it is broken; None if it holds."""


def check_algorithm(
    algorithm: Algorithm,
    *,
    num_runs: int = 2000,
    instances: Sequence[Instance] | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """Check the guarantee of an algorithm on instances with known answers.

    Instances that the algorithm refuses by an `InputError` are left out.

    Args:
        algorithm: the algorithm.
        num_runs: the number of independent runs that are compared with the exact answer.
        instances: the instances; by default those of `exact_instances()`.
        seed: the seed of the runs.

    Returns:
        The laws that were checked, all of which hold.

    Raises:
        AlgorithmLawError: a law is broken; names the law, the instance and the standard errors.
        InputError: the algorithm runs on none of the instances.
    """
    laws = dict[str, None]()
    fitting = [
        instance for instance in instances or exact_instances() if _runs_on(algorithm, instance)
    ]
    if not fitting:
        raise InputError(
            f"An algorithm is held to exact answers. Got {type(algorithm).__name__}, which runs on "
            "none of the instances; accepted: algorithms for one of them, or other instances."
        )
    for instance in fitting:
        for check in (_check_runs, *_CHECKS[algorithm.guarantee]):
            for law, broken in check(algorithm, instance, num_runs, seed):
                if broken:
                    raise AlgorithmLawError(type(algorithm).__name__, law, instance.name, broken)
                laws[law] = None
    return tuple(laws)


def _check_runs(
    algorithm: Algorithm, instance: Instance, num_runs: int, seed: int
) -> Iterator[Finding]:
    before = _global_random_state()
    first, again, other = (run_on(algorithm, instance, s) for s in (seed, seed, seed + 1))
    same = _outcome(first, instance) == _outcome(again, instance)
    yield "the same seed gives the same run", None if same else "the outcomes differ"
    last = _outcome(last_on(algorithm, instance, seed), instance)
    ends_alike = _outcome(first, instance) == last
    yield "a run ends as its steps do", None if ends_alike else "the outcomes differ"
    differs = _outcome(first, instance) != _outcome(other, instance)
    stochastic = differs or algorithm.guarantee == "heuristic"
    yield "other seeds give other runs", None if stochastic else "the outcomes are the same"
    kept = before == _global_random_state()
    yield "no global random state is touched", None if kept else "it has moved"
    if first.log_evidence is None:
        return
    found = log_evidence(first.log_weights)
    gap = 0.0 if found == first.log_evidence else abs(found - first.log_evidence)
    broken = None if gap < 1e-9 else f"they are {gap:.3g} apart"
    yield "the log-evidence is the logsumexp of the weights", broken


def _outcome(posterior: Posterior, instance: Instance) -> tuple[Any, ...]:
    return posterior.log_weights.tolist(), instance.statistics(posterior.particles).tolist()


def _global_random_state() -> tuple[Any, ...]:
    # Not that of `random`: runtime type checkers, which look at some element of a list, use it.
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


def _check_unbiased(
    algorithm: Algorithm, instance: Instance, num_runs: int, seed: int
) -> Iterator[Finding]:
    runs = replicate(algorithm, instance, num_runs, seed=seed)
    yield "the evidence is unbiased", _too_far(runs.z_of_evidence())
    yield "the particles are properly weighted", _too_far(runs.z_of_measures())


def _check_properly_weighted(
    algorithm: Algorithm, instance: Instance, num_runs: int, seed: int
) -> Iterator[Finding]:
    """The constant factor of the weights is unknown, so that only normalised measures count."""
    runs = replicate(algorithm, instance, num_runs, seed=seed)
    yield "the particles are properly weighted", _too_far(runs.z_of_normalized_measures())


def _check_right_on_average(
    algorithm: Algorithm, instance: Instance, num_runs: int, seed: int
) -> Iterator[Finding]:
    """A run begins out of equilibrium: what it gives on average may be off by a little."""
    means = []
    for number in range(max(num_runs // 20, 60)):
        posterior = run_on(algorithm, instance, seed + number)
        weights = posterior.normalized_weights[:, None]
        means.append((weights * instance.statistics(posterior.particles)).sum(0))
    found = torch.stack(means)
    error = found.std(0) / len(found) ** 0.5
    gap = (found.mean(0) - instance.exact).abs()
    scale = instance.exact.abs().clamp(min=0.1)
    z = float(((gap - 0.1 * scale).clamp(min=0.0) / error.clamp(min=1e-12)).max())
    yield "the posterior is right on average", _too_far(z)


def _check_consistent(
    algorithm: Algorithm, instance: Instance, num_runs: int, seed: int
) -> Iterator[Finding]:
    errors = []
    for size in SIZES:
        sized: Any = replace(algorithm, num_particles=size)  # type: ignore[type-var]
        found = [run_on(sized, instance, seed + number).log_evidence for number in range(20)]
        gaps = torch.tensor(found, dtype=torch.float64).exp() / instance.evidence - 1
        errors.append(float(gaps.square().mean().sqrt()))
    closer = errors[-1] < 0.5 * errors[0] or errors[-1] < 0.02
    broken = None if closer else f"relative errors {', '.join(f'{e:.3g}' for e in errors)}"
    yield f"the error shrinks over {', '.join(map(str, SIZES))} particles", broken


def _too_far(z: float) -> str | None:
    return None if abs(z) < MAX_Z else f"{z:.1f} standard errors off; accepted: {MAX_Z}."


_CHECKS: Final[dict[str, tuple[Callable[..., Iterator[Finding]], ...]]] = {
    "unbiased evidence": (_check_unbiased,),
    "properly weighted": (_check_properly_weighted,),
    "invariant": (_check_right_on_average,),
    "consistent": (_check_consistent,),
    "heuristic": (),
}


def _runs_on(algorithm: Algorithm, instance: Instance) -> bool:
    try:
        next(iter(algorithm.iterate(instance.model, instance.observations, seed=0)))
        algorithm.run(instance.model, instance.observations, seed=0)
    except (InputError, NotImplementedError):
        return False
    except DegenerateWeightsError:
        return True
    return True
