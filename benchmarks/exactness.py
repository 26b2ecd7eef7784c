"""Every algorithm against exact answers, with every resampler and threshold; and known errors.

    python -m benchmarks.exactness --runs 2000 --out docs/figures/exactness.json

prints a table in Markdown. For algorithms that promise unbiased evidence: how many standard errors
the mean of the evidence is off, that of the statistic farthest off, and the total variation between
all runs together and the exact posterior. For those that promise consistency: the relative error
of the evidence with 10, 100 and 1,000 particles. Wrong variants, known from other libraries, stand
at the end; each must be rejected.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks import wrong_variants
from llmsmc.core.randomness import RandomStreams
from llmsmc.errors import InputError
from llmsmc.inference import (
    Adaptive,
    Algorithm,
    AuxiliaryFilter,
    BootstrapFilter,
    CoalescingFilter,
    EntropicFilter,
    GuidedFilter,
    IslandFilter,
    ParticleCascade,
    ParticleGibbsMove,
    RandomWalk,
    ResampleMove,
    TemperedSMC,
    TwistedFilter,
    WeightedBestOfN,
    killing,
    multinomial,
    residual,
    stratified,
    systematic,
)
from llmsmc.inference.loop.loop import Run
from llmsmc.inference.mcmc.conditional_smc import Chains, draw_references, sweep
from llmsmc.inference.mcmc.reference import RememberedPaths
from llmsmc.models import TabularLanguageModel
from llmsmc.registry import RESAMPLERS
from llmsmc.testing import Instance, exact_instances, replicate
from llmsmc.testing.instances import of_table, table_without_end

SCHEMES: Final = tuple(RESAMPLERS.values())
LIMIT: Final = 4.0
REJECTED: Final = 6.0

Row = dict[str, Any]


def main() -> None:
    """Run all rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--chains", type=int, default=40_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = list(unbiased_rows(arguments.runs))
    rows += list(invariant_rows(arguments.chains))
    rows += list(consistent_rows())
    rows += list(wrong_rows(arguments.runs, arguments.chains))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


def unbiased_algorithms() -> Iterator[tuple[str, Algorithm]]:
    """Yield the algorithms that promise unbiased evidence, with a name for each row."""
    for scheme in SCHEMES:
        for threshold in (0.5, 1.0):
            resampler = Adaptive(scheme, threshold)
            label = f"{scheme.name}, {threshold:g}"
            yield f"bootstrap, {label}", BootstrapFilter(6, resampler)
    for threshold in (0.0, 0.5, 1.0):
        for scheme in (multinomial, systematic):
            resampler = Adaptive(scheme, threshold)
            label = f"{scheme.name}, {threshold:g}"
            if threshold == 0.0:
                yield f"bootstrap, {label}", BootstrapFilter(6, resampler)
            yield f"guided, {label}", GuidedFilter(6, resampler)
            yield f"auxiliary, {label}", AuxiliaryFilter(6, resampler)
            yield f"twisted, {label}", TwistedFilter(6, resampler)
            yield f"islands of 3, {label}", IslandFilter(6, 2, resampler)
            yield f"resample-move (suffix), {label}", ResampleMove(6, resampler)
            yield (
                f"resample-move (walk), {label}",
                ResampleMove(6, resampler, move=RandomWalk()),
            )
            yield (
                f"resample-move (conditional run), {label}",
                ResampleMove(6, resampler, move=ParticleGibbsMove(2)),
            )
    for scheme in (multinomial, systematic):
        ladder = (0.2, 0.6, 1.0)
        yield f"tempered, ladder, {scheme.name}", TemperedSMC(6, ladder, resampler=scheme)
        yield (
            f"tempered, waste-free, {scheme.name}",
            TemperedSMC(6, ladder, resampler=scheme, num_moves=1, waste_free=True),
        )
        yield f"entropic, {scheme.name}", EntropicFilter(6, resampler=scheme)
        yield f"coalescing, {scheme.name}", CoalescingFilter(6, resampler=scheme)
    for wave in (2, 6):
        yield f"cascade, waves of {wave}", ParticleCascade(6, wave=wave)
    yield "weighted best of N", WeightedBestOfN(6)


def unbiased_rows(num_runs: int) -> Iterator[Row]:
    """Yield the rows of the algorithms that promise unbiased evidence."""
    for name, algorithm in unbiased_algorithms():
        cells: Row = {}
        for instance in exact_instances():
            try:
                runs = replicate(algorithm, instance, num_runs)
            except InputError:
                continue
            cells[instance.name] = {
                "z of the evidence": runs.z_of_evidence(),
                "z of a statistic": runs.z_of_measures(),
                "total variation": runs.total_variation(),
            }
        yield {"kind": "unbiased evidence", "name": name, "cells": cells}


def invariant_rows(num_chains: int) -> Iterator[Row]:
    """Yield the rows of particle Gibbs: exact draws pushed through two sweeps."""
    for size in (2, 3, 5):
        for scheme in (multinomial, residual, stratified, systematic, killing):
            for ancestor, backward in ((False, False), (True, False), (False, True)):
                update = "ancestor" if ancestor else "backward" if backward else "no"
                chains = Chains(num_chains, size, Adaptive(scheme, 1.0), ancestor, backward)
                name = f"particle Gibbs, N = {size}, {scheme.name}, {update} sampling"
                cells = {
                    instance.name: after_sweeps(chains, instance)
                    for instance in exact_instances()[:2]
                }
                yield {"kind": "invariant", "name": name, "cells": cells}


def after_sweeps(chains: Chains, instance: Instance, num_sweeps: int = 2) -> Row:
    """Return the distance of the paths from the posterior after sweeps from exact draws."""
    model = instance.model
    assert isinstance(model, TabularLanguageModel)
    run, paths = Run(model, None, RandomStreams(1)), model.paths()
    source = torch.Generator().manual_seed(5)
    law = model.log_target(paths).softmax(0)
    drawn = law.multinomial(chains.num_chains, replacement=True, generator=source)
    references: Any = RememberedPaths(paths[drawn])
    for number in range(num_sweeps):
        swept = sweep(run, chains, references, model.max_steps - 1, str(number))
        references = draw_references(run, chains, swept, source)
    found = instance.statistics(references.paths).mean(0)
    error = (instance.exact * (1 - instance.exact) / chains.num_chains).sqrt()
    return {
        "z of a statistic": float(((found - instance.exact) / error).abs().max()),
        "total variation": float((found - instance.exact).abs().sum() / 2),
    }


def consistent_rows() -> Iterator[Row]:
    """Yield the rows of what promises consistency only."""
    for name, algorithm in (("tempered, adaptive ladder", TemperedSMC(10)),):
        cells = {}
        for instance in exact_instances()[:2]:
            errors = []
            for size in (10, 100, 1000):
                sized = replace(algorithm, num_particles=size)
                found = [
                    sized.run(instance.model, instance.observations, seed=seed).log_evidence
                    for seed in range(40)
                ]
                gaps = torch.tensor(found, dtype=torch.float64).exp() / instance.evidence - 1
                errors.append(float(gaps.square().mean().sqrt()))
            cells[instance.name] = {"relative errors": errors}
        yield {"kind": "consistent", "name": name, "cells": cells}


def wrong_rows(num_runs: int, num_chains: int) -> Iterator[Row]:
    """Yield the rows of the known errors."""
    for name, algorithm, instance in wrong_variants.algorithms():
        runs = replicate(algorithm, instance, num_runs)
        worst = max(abs(runs.z_of_evidence()), runs.z_of_measures())
        yield {"kind": "wrong", "name": name, "cells": {instance.name: {"z": worst}}}
    table = of_table("table", table_without_end())
    chains = Chains(num_chains, 3, Adaptive(wrong_variants.SORTED, 1.0), ancestor_sampling=False)
    worst = after_sweeps(chains, table, num_sweeps=4)["z of a statistic"]
    name = "conditional run, sorted ancestors overwritten"
    yield {"kind": "wrong", "name": name, "cells": {"table": {"z": worst}}}


def table(rows: list[Row]) -> str:
    """Return all rows in Markdown, and how many are as they should be."""
    names = [instance.name for instance in exact_instances()]
    lines: list[str] = []
    for kind in ("unbiased evidence", "invariant", "consistent"):
        lines += ["", f"## {kind.capitalize()}", "", "| | " + " | ".join(names) + " |"]
        lines.append("| --- " * (1 + len(names)) + "|")
        for row in (row for row in rows if row["kind"] == kind):
            cells = [_cell(row["cells"].get(name)) for name in names]
            lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    lines += ["", "## Wrong variants", "", "| error | instance | z |", "| --- | --- | --- |"]
    for row in (row for row in rows if row["kind"] == "wrong"):
        for name, values in row["cells"].items():
            lines.append(f"| {row['name']} | {name} | {values['z']:.1f} |")
    evidence = _values(rows, "unbiased evidence", "z of the evidence")
    lines += [
        "",
        f"Largest |z| of the evidence: {max(map(abs, evidence)):.2f} of {len(evidence)} "
        f"(limit {LIMIT:g}).",
        f"Smallest |z| of a wrong variant: {min(_values(rows, 'wrong', 'z')):.1f} "
        f"(rejected above {REJECTED:g}).",
    ]
    return "\n".join(lines)


def _values(rows: list[Row], kind: str, key: str) -> list[float]:
    return [cell[key] for row in rows if row["kind"] == kind for cell in row["cells"].values()]


def _cell(values: Row | None) -> str:
    if values is None:
        return ""
    if "relative errors" in values:
        return ", ".join(f"{error:.3f}" for error in values["relative errors"])
    parts = [f"{values['z of the evidence']:+.1f}"] if "z of the evidence" in values else []
    return ", ".join(
        [*parts, f"{values['z of a statistic']:.1f}", f"{values['total variation']:.4f}"]
    )


if __name__ == "__main__":
    main()
