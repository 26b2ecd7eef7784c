"""The same instances for other libraries and for this one, against known answers.

    python -m benchmarks.peers --out docs/figures/peers.json

installs each peer into an environment of its own (a few minutes, once), runs it on instances with
known answers, and prints a table in Markdown. |z| < 4 is what a right algorithm shows; draws of
answers are right where their distance to some target is no more than chance allows.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.peers import languages
from benchmarks.peers.environments import python_of
from llmsmc.core.randomness import RandomStreams
from llmsmc.inference import Adaptive, BootstrapFilter, ParticleGibbs, multinomial, systematic
from llmsmc.inference.loop.loop import Run
from llmsmc.inference.mcmc.conditional_smc import Chains, draw_references, sweep
from llmsmc.inference.mcmc.reference import Trajectories
from llmsmc.models import LinearGaussian
from llmsmc.testing import Instance, replicate
from llmsmc.testing.instances import of_table

LIMIT: Final = 4.0
WALK: Final = {
    "initial_mean": 0.5,
    "initial_covariance": 1.0,
    "transition_matrix": 0.9,
    "transition_covariance": 0.3,
    "observation_matrix": 1.2,
    "observation_covariance": 1.0,
}
SWEEPS: Final = 10
"""Sweeps of conditional SMC from each exact draw: errors add up."""
OBSERVATIONS: Final = [0.3, 1.8, -0.4, 0.9]

Row = dict[str, Any]


def main() -> None:
    """Run the peers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--chains", type=int, default=10_000)
    parser.add_argument("--environments", type=Path, default=Path(".peers"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for comparison in (sentences, ragged, answers, walks, filtered_means):
        for found in comparison(arguments):
            print(found["instance"], found["library"], found["algorithm"], file=sys.stderr)
            rows.append(found)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


# Comparisons


def sentences(arguments: argparse.Namespace) -> Iterator[Row]:
    """Compare the evidence of three independent steps."""
    language = languages.independent_steps()
    yield from _own_evidence("three steps", language, arguments.runs)
    task = {"runs": arguments.runs, "language": language.as_json()}
    evidence = np.exp(language.model().log_evidence())
    for line in run("llamppl", task, arguments):
        yield evidence_row("three steps", line, evidence)


def ragged(arguments: argparse.Namespace) -> Iterator[Row]:
    """Compare the evidence of sentences of ragged lengths."""
    language = languages.ragged_sentences()
    yield from _own_evidence("ragged sentences", language, arguments.runs)
    task = {"runs": arguments.runs, "language": language.as_json()}
    evidence = np.exp(language.model().log_evidence())
    for peer in ("llamppl", "genlm_control"):
        for line in run(peer, task, arguments):
            yield evidence_row("ragged sentences", line, evidence)


def answers(arguments: argparse.Namespace) -> Iterator[Row]:
    """Compare the law of the answers drawn where one answer is short and one long."""
    language = languages.early_stopper(2)
    size = 64
    for name, algorithm in (
        (f"BootstrapFilter, {size}", BootstrapFilter(size)),
        (f"ParticleGibbs, 4 x {size // 4}", ParticleGibbs(size // 4, 4)),
    ):
        drawn = []
        for seed in range(arguments.runs):
            posterior = algorithm.run(language.model(), seed=seed)
            sentence = posterior.sample(1, seed=seed)[0]
            drawn.append(languages.key(tuple(int(x) for x in sentence if x >= 0)))
        yield answer_row({"algorithm": name, "answers": drawn}, language)
    task = {"runs": arguments.runs, "language": language.as_json(), "particles": size}
    for line in run("its_hub", task, arguments):
        yield answer_row(line, language)


def walks(arguments: argparse.Namespace) -> Iterator[Row]:
    """Compare the evidence of a walk with Kalman's, and paths after a sweep with exact ones."""
    model = LinearGaussian(**WALK)
    seen = [torch.tensor([y]) for y in OBSERVATIONS]
    evidence = float(np.exp(model.log_evidence(seen)))
    filtered = model.filter(seen).means[-1]
    instance = Instance("walk", model, seen, np.log(evidence), lambda x: x.double(), filtered)
    for scheme in (multinomial, systematic):
        for threshold in (0.5, 1.0):
            algorithm = BootstrapFilter(6, Adaptive(scheme, threshold))
            found = replicate(algorithm, instance, arguments.runs).evidence.tolist()
            name = f"BootstrapFilter, {scheme.name}, threshold {threshold:g}"
            yield evidence_row("walk", {"algorithm": name, "evidence": found}, 1.0)
    mean, covariance = smoothed(OBSERVATIONS)
    starts = np.random.default_rng(0).multivariate_normal(mean, covariance, arguments.chains)
    for size in (2, 3, 5):
        line = {
            "algorithm": f"ParticleGibbs, N = {size}",
            "paths": swept(model, seen, starts, size),
        }
        yield moment_row("paths of the walk", line, mean, covariance)
    task = {
        "runs": arguments.runs, "walk": WALK, "observations": OBSERVATIONS,
        "paths": starts.tolist(), "sweeps": SWEEPS,
    }  # fmt: skip
    for line in run("particles", task, arguments):
        if "evidence" in line:
            yield evidence_row("walk", line, evidence)
        else:
            yield moment_row("paths of the walk", line, mean, covariance)


def swept(
    model: LinearGaussian, seen: Sequence[torch.Tensor], starts: np.ndarray, size: int
) -> np.ndarray:
    """Return the paths after sweeps of our conditional SMC, resampled at every step."""
    chains = Chains(len(starts), size, Adaptive(multinomial, 1.0), False, False)
    ours = Run(model, seen, RandomStreams(0))
    source = torch.Generator().manual_seed(0)
    states = [torch.as_tensor(column).float()[:, None] for column in starts.T]
    references: Any = Trajectories(tuple(states))
    for number in range(SWEEPS):
        last = sweep(ours, chains, references, len(seen) - 1, str(number))
        references = draw_references(ours, chains, last, source)
    return torch.cat(list(references.states), dim=1).double().numpy()


def filtered_means(arguments: argparse.Namespace) -> Iterator[Row]:
    """Compare the filtered mean of the last state of the walk."""
    mean, _ = smoothed(OBSERVATIONS)
    size, runs = 1000, max(arguments.runs // 10, 2)
    task = {"runs": runs, "walk": WALK, "observations": OBSERVATIONS, "particles": size}
    model = LinearGaussian(**WALK)
    seen = [torch.tensor([y]) for y in OBSERVATIONS]
    for threshold in (0.5, 1.0):
        algorithm = BootstrapFilter(size, Adaptive(systematic, threshold))
        name = f"BootstrapFilter, {size}, threshold {threshold:g}"
        means = [
            [float(algorithm.run(model, seen, seed=seed).mean(lambda x: x)[0])]
            for seed in range(runs)
        ]
        yield mean_row("last state of the walk", {"algorithm": name, "paths": means}, mean[-1])
    for line in run("pyro", task, arguments):
        yield mean_row("last state of the walk", line, mean[-1])


def _own_evidence(instance: str, language: languages.Language, runs: int) -> Iterator[Row]:
    for scheme in (multinomial, systematic):
        for threshold in (0.5, 1.0):
            algorithm = BootstrapFilter(6, Adaptive(scheme, threshold))
            found = replicate(algorithm, of_table(instance, language.model()), runs)
            name = f"BootstrapFilter, {scheme.name}, threshold {threshold:g}"
            yield evidence_row(
                instance, {"algorithm": name, "evidence": found.evidence.tolist()}, 1.0
            )


def run(
    peer: str, task: Mapping[str, Any], arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Run the program of a peer in its environment; yield its lines."""
    program = Path(__file__).parent / "runs" / f"with_{peer}.py"
    done = subprocess.run(
        [python_of(peer, arguments.environments), program],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{program.name} failed:\n{done.stderr[-2000:]}")
    for line in done.stdout.splitlines():
        yield {"peer": peer, **json.loads(line)}


# Judgements


def row(instance: str, line: Mapping[str, Any], figure: Any, passes: bool, note: str = "") -> Row:
    """Return a row of the table."""
    library = f"{line['peer']} {line['version']}" if "peer" in line else "llmsmc"
    return {
        "instance": instance,
        "library": library,
        "algorithm": line["algorithm"],
        "figure": figure,
        "note": note,
        "passes": passes,
    }


def evidence_row(instance: str, line: Mapping[str, Any], exact: float) -> Row:
    """Judge estimates of the evidence by their mean."""
    ratios = np.array(line["evidence"]) / exact
    z = z_score(ratios, 1.0)
    return row(instance, line, z, abs(z) < LIMIT, f"mean ratio {ratios.mean():.3f}")


def answer_row(line: Mapping[str, Any], language: languages.Language) -> Row:
    """Judge answers by the nearest target that has a name."""
    drawn = Counter(line["answers"])
    count = sum(drawn.values())
    scores = {}
    for name, weight in languages.TARGETS.items():
        law = language.target(weight)
        share = np.array([drawn[sentence] / count for sentence in law])
        exact = np.array(list(law.values()))
        spread = np.sqrt(exact * (1 - exact) / count)
        scores[name] = float(np.max(np.abs(share - exact) / spread))
    nearest = min(scores, key=lambda name: scores[name])
    short = language.target(languages.TARGETS[nearest])["0"]
    note = f"P(short) {drawn['0'] / count:.3f}, nearest: {nearest} {short:.3f}"
    return row("short or long", line, scores[nearest], scores[nearest] < LIMIT, note)


def moment_row(
    instance: str, line: Mapping[str, Any], mean: np.ndarray, covariance: np.ndarray
) -> Row:
    """Judge paths by their means and all of their products."""
    paths = np.array(line["paths"])
    centred = paths - mean
    scores = [z_score(centred[:, t], 0.0) for t in range(len(mean))]
    scores += [
        z_score(centred[:, s] * centred[:, t], covariance[s, t])
        for s in range(len(mean))
        for t in range(s, len(mean))
    ]
    worst = max(scores, key=abs)
    return row(instance, line, worst, abs(worst) < LIMIT)


def mean_row(instance: str, line: Mapping[str, Any], exact: float) -> Row:
    """Judge estimates of a mean, whose bias as ratios is far below their noise."""
    z = z_score(np.array(line["paths"])[:, 0], exact)
    return row(instance, line, z, abs(z) < LIMIT)


def z_score(values: np.ndarray, exact: float) -> float:
    """Return the error of the mean in standard errors."""
    return float((values.mean() - exact) / (values.std(ddof=1) / np.sqrt(len(values))))


def smoothed(observations: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the covariance of all states of the walk, given all observations."""
    count = len(observations)
    mean = WALK["initial_mean"] * WALK["transition_matrix"] ** np.arange(count)
    variances = [WALK["initial_covariance"]]
    for _ in range(count - 1):
        variances.append(
            WALK["transition_matrix"] ** 2 * variances[-1] + WALK["transition_covariance"]
        )
    prior = np.array(
        [
            [variances[min(s, t)] * WALK["transition_matrix"] ** abs(s - t) for t in range(count)]
            for s in range(count)
        ]
    )
    weight = WALK["observation_matrix"]
    innovation = prior * weight**2 + WALK["observation_covariance"] * np.eye(count)
    gain = weight * prior @ np.linalg.inv(innovation)
    return mean + gain @ (np.array(observations) - weight * mean), prior - gain @ prior * weight


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| instance | library | algorithm | z | | passes |",
        "| --- | --- | --- | --: | --- | --- |",
    ]
    lines += [
        f"| {r['instance']} | {r['library']} | {r['algorithm']} | {r['figure']:.1f} | "
        f"{r['note']} | {'yes' if r['passes'] else '**no**'} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
