r"""Posteriors as ArviZ data: groups of xarray, with the dimensions `chain` and `draw`.

ArviZ has no weights. The weighted particles are therefore resampled, systematically, to draws of
equal weight. Draw m is the particle n at which the cumulated weights pass $(m + U) / M$, so that
each particle has $M W^n$ draws, rounded up or down. The particles are first sorted by descent, so
that copies and siblings stand side by side. ArviZ reads repeated draws as autocorrelation, and its
`ess` is near the effective sample size of the weights, and below it for the early steps of
trajectories, where few ancestors are left. If all weights are equal, as in a chain, the draws are
the particles.

Groups:

* `posterior`: tensors under their names in the population, a lone tensor as `x`; with a dimension
  `step` if the population of every step was kept. For text: `answer`, an index into the group
  `answers`, and `num_steps`.
* `sample_stats`: the index (`particle`), carried `log_weight` and `truncated` flag of each draw.
* `steps`: the history by `step`.
* `answers`: for text, the `probability` and `standard_error` of each answer, with the answer as
  coordinate.

Chains are the chains of the algorithm: one for `ParticleMarginalMetropolisHastings`, `num_chains`
for `ParticleGibbs`, each with all its sweeps in order. The particles of a filter form one chain,
and so do all islands together. The chains of several posteriors are counted together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from llmsmc.core.checks import require_count
from llmsmc.core.extras import optional
from llmsmc.core.genealogy import lineages, num_surviving
from llmsmc.core.particles import named_populations
from llmsmc.core.randomness import RandomStreams
from llmsmc.core.weights import normalize
from llmsmc.errors import InputError
from llmsmc.results import summary
from llmsmc.results.estimates import WeightedParticles, answer_labels

_DIMENSIONS = ("chain", "draw", "step")


def to_arviz(
    posteriors: Sequence[WeightedParticles],
    *,
    num_draws: int | None = None,
    seed: int = 0,
    resample: bool = True,
) -> Any:
    """Return posteriors of one model as ArviZ data.

    Args:
        posteriors: one posterior, or several whose chains stand side by side.
        num_draws: M, draws of each chain; by default the number of its particles.
        seed: the seed of the resampling.
        resample: if false, draws are the particles, and `sample_stats` has their weights.

    Returns:
        An `xarray.DataTree`; before version 1 of ArviZ an `arviz.InferenceData`.

    Raises:
        MissingExtraError: ArviZ is not installed.
        InputError: the particles hold something other than tensors and text, or the chains of
            several posteriors differ in length.
        DegenerateWeightsError: all weights are zero.
    """
    if num_draws is not None:
        require_count("num_draws", num_draws)
    arviz = optional("arviz", extra="arviz", purpose="to_arviz")
    xarray = optional("xarray", extra="arviz", purpose="to_arviz")
    chosen = [
        _draws(chain, posterior, num_draws, RandomStreams(seed).generator(k, "to_arviz"))
        if resample
        else chain
        for k, (posterior, chain) in enumerate(_chains(posteriors))
    ]
    owners = [posterior for posterior, _ in _chains(posteriors)]
    lengths = sorted({len(draws) for draws in chosen})
    if len(lengths) > 1:
        raise InputError(
            f"Chains are equally long. Got {lengths} draws; accepted: posteriors with one number "
            "of particles, or num_draws."
        )
    labels = _labels(posteriors)
    states = {id(posterior): _states(posterior, labels) for posterior in posteriors}
    rows = list(zip(owners, chosen, range(len(owners)), strict=True))
    groups = {
        "posterior": _joined(
            xarray, "chain", [_values(xarray, *states[id(p)], draws, k) for p, draws, k in rows]
        ),
        "sample_stats": _joined(
            xarray, "chain", [_values(xarray, _stats(p), False, draws, k) for p, draws, k in rows]
        ),
        "steps": _joined(xarray, "run", [_steps(xarray, posterior) for posterior in posteriors]),
    }
    if labels:
        laws = [_law(xarray, posterior, labels) for posterior in posteriors]
        groups["answers"] = _joined(xarray, "run", laws)
    attributes = _attributes(posteriors)
    groups["posterior"] = groups["posterior"].assign_attrs(attributes)
    if "InferenceData" in vars(arviz):
        return arviz.InferenceData(attrs=attributes, **groups)
    return xarray.DataTree.from_dict({"/": xarray.Dataset(attrs=attributes), **groups})


def _chains(
    posteriors: Sequence[WeightedParticles],
) -> Iterator[tuple[WeightedParticles, Int64[Tensor, " _"]]]:
    """Yield the particles of each chain, sweep by sweep, and within each in order of descent."""
    for posterior in posteriors:
        descent = lineages([record.ancestors for record in posterior.history]).numpy()
        rank = np.empty(posterior.num_particles, dtype=np.int64)
        rank[np.lexsort(descent[::-1])] = np.arange(posterior.num_particles)
        ranks = torch.from_numpy(rank)
        num_chains = posterior.metadata.get("num_chains", 1)
        num_sweeps = posterior.metadata.get("num_sweeps", 1)
        particles = torch.arange(posterior.num_particles).reshape(num_sweeps, num_chains, -1)
        for k in range(num_chains):
            chain = particles[:, k].reshape(-1)
            yield posterior, chain[ranks[chain].argsort()]


def _draws(
    chain: Int64[Tensor, " _"],
    posterior: WeightedParticles,
    num_draws: int | None,
    generator: Generator,
) -> Int64[Tensor, " M"]:
    """Return the particles of equally weighted draws; consumes `generator`."""
    log_weights = posterior.log_weights[chain]
    probabilities = normalize(log_weights)
    count = len(chain) if num_draws is None else num_draws
    if count == len(chain) and bool((log_weights == log_weights[0]).all()):
        return chain
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    positions = (torch.arange(count, dtype=torch.float64) + offset) / count
    found = torch.searchsorted(probabilities.cumsum(0), positions, right=True)
    return chain[found.clamp(max=int(probabilities.nonzero().max()))]


def _labels(posteriors: Sequence[WeightedParticles]) -> list[str]:
    """Return all answers, most probable first; none for models without text."""
    if not all(hasattr(posterior.particles, "answers") for posterior in posteriors):
        return []
    totals: dict[str, float] = {}
    for posterior in posteriors:
        weights = posterior.normalized_weights.tolist()
        for label, weight in zip(answer_labels(posterior.particles), weights, strict=True):
            totals[label] = totals.get(label, 0.0) + weight
    return sorted(totals, key=lambda label: (-totals[label], label))


def _states(posterior: WeightedParticles, labels: Sequence[str]) -> tuple[dict[str, Tensor], bool]:
    """Return `{name: [N, ...]}`, or `[N, T, ...]` and True if trajectories are kept."""
    if labels:
        codes = [labels.index(label) for label in answer_labels(posterior.particles)]
        steps = posterior.particles.num_steps if hasattr(posterior.particles, "num_steps") else None
        found = {"answer": torch.tensor(codes)}
        return found | ({} if steps is None else {"num_steps": steps}), False
    final = _tensors(posterior.particles)
    if posterior.recorded is None:
        return final, False
    shapes = {
        tuple((name, leaf.shape[1:]) for name, leaf in _tensors(state).items())
        for state in posterior.recorded
    }
    if len(shapes) > 1:  # states that grow have no trajectory in one array
        return final, False
    return _tensors(posterior.trajectories()), True


def _tensors(particles: Any) -> dict[str, Tensor]:
    """Return the tensors of the population, by names that ArviZ can use."""
    found = {}
    for name, leaf in named_populations(particles):
        if not isinstance(leaf, Tensor):
            raise InputError(
                f"ArviZ data are arrays. Got particles with a {type(leaf).__name__} as {name!r}; "
                "accepted: tensors, containers of tensors, and texts with answers."
            )
        name = name.replace("/", "_")
        found[f"{name}_" if name in _DIMENSIONS else name] = leaf
    return found


def _stats(posterior: WeightedParticles) -> dict[str, Tensor]:
    return {
        "particle": torch.arange(posterior.num_particles),
        "log_weight": posterior.log_weights,
        "truncated": posterior.truncated,
    }


def _values(
    xarray: ModuleType,
    tensors: dict[str, Tensor],
    has_steps: bool,
    draws: Int64[Tensor, " M"],
    chain: int,
) -> Any:
    """Return one chain of draws as a dataset."""
    coordinates: dict[str, Any] = {"chain": [chain], "draw": np.arange(len(draws))}
    arrays = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()[draws]
        value = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()[None]
        known = _DIMENSIONS if has_steps else _DIMENSIONS[:2]
        others = [f"{name}_dim_{k}" for k in range(value.ndim - len(known))]
        arrays[name] = ([*known, *others], value)
        if has_steps:
            coordinates["step"] = np.arange(value.shape[2])
    return xarray.Dataset(arrays, coords=coordinates)


def _steps(xarray: ModuleType, posterior: WeightedParticles) -> Any:
    """Return the history of a run as a dataset."""
    history = posterior.history
    columns = {
        "effective_sample_size": [record.effective_sample_size for record in history],
        "log_evidence": [_or_nan(record.log_evidence) for record in history],
        "resampled": [float(record.resampled) for record in history],
        "num_unique_ancestors": [float(record.num_unique_ancestors) for record in history],
        "num_surviving": [float(n) for n in num_surviving([r.ancestors for r in history])],
        "num_finished": [float(record.num_finished) for record in history],
        "acceptance_rate": [_or_nan(record.acceptance_rate) for record in history],
        "max_weight": [record.max_weight for record in history],
    }
    return xarray.Dataset(
        {name: ("step", np.array(column)) for name, column in columns.items()},
        coords={"step": [record.step for record in history]},
    )


def _law(xarray: ModuleType, posterior: WeightedParticles, labels: Sequence[str]) -> Any:
    """Return the distribution of the answer as a dataset."""
    found = {each.answer: each for each in summary.answer_estimates(posterior)}
    errors = [found[label].standard_error if label in found else None for label in labels]
    columns = {
        "probability": [found[label].probability if label in found else 0.0 for label in labels],
        "standard_error": [np.nan if error is None else error for error in errors],
    }
    return xarray.Dataset(
        {name: ("answer", np.array(column)) for name, column in columns.items()},
        coords={"answer": np.array(labels, dtype=object)},
    )


def _joined(xarray: ModuleType, dimension: str, datasets: Sequence[Any]) -> Any:
    """Return datasets joined along a dimension; a single dataset as it is."""
    if len(datasets) == 1:
        return datasets[0]
    return xarray.concat(datasets, dim=dimension, join="outer")


def _attributes(posteriors: Sequence[WeightedParticles]) -> dict[str, Any]:
    """Return the attributes of the runs; for several runs, as lists of numbers."""
    found: dict[str, list[Any]] = {}
    for posterior in posteriors:
        error = summary.log_evidence_error(posterior)
        values = {
            "seed": str(posterior.seed),  # may be larger than the integers of a file
            "num_particles": posterior.num_particles,
            "log_evidence": _or_nan(posterior.log_evidence),
            "log_evidence_standard_error": _or_nan(error),
            "effective_sample_size": posterior.effective_sample_size,
            "num_truncated": summary.num_truncated(posterior),
            **{name: n for name, n in asdict(posterior.cost).items() if name != "failures"},
        }
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {
        "inference_library": "llmsmc",
        "inference_library_version": _version(),
        "algorithm": posteriors[0].algorithm,
        "guarantee": posteriors[0].guarantee,
        **{name: row[0] if len(row) == 1 else row for name, row in found.items()},
    }


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _version() -> str:
    try:
        return version("llmsmc")
    except PackageNotFoundError:  # run from a tree that is not installed
        return "unknown"
