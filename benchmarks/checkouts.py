"""This checkout beside an earlier one, in turns: no change may make anything slower.

    python -m benchmarks.checkouts FOLDER --rounds 15

Each checkout is a process of its own with one thread, which works only while it is asked. Every
case is done by both of them in each round, in changing order; compared are processor times, by the
median over the rounds of before / after, with the quartiles: above 1 this checkout is faster. The
values that both compute, log-evidences to the last bit, are compared, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SIZES: Final = (100, 1_000, 10_000, 100_000)
THRESHOLDS: Final = (1.0, 0.5)
STEPS: Final = 100
PARTICLES: Final = 32
LEVELS: Final = (3, 5)
PROBLEMS: Final = 3

Case = tuple[str, int, float]
"""What is timed, its size and its threshold or level."""

CASES: Final[tuple[Case, ...]] = (
    *(("filter", size, threshold) for size in SIZES for threshold in THRESHOLDS),
    *(("resample", size, 1.0) for size in SIZES),
    *(("reasoning", PARTICLES, level) for level in LEVELS),
    *(("reasoning together", PARTICLES, level) for level in LEVELS),
)


def workers() -> Iterator[tuple[str, Callable[[int, float, int], object]]]:
    """Yield the functions of the cases, by name; each takes size, threshold or level, and seed."""
    import torch

    from benchmarks.embedded import embedded_models, outcomes, questions_of
    from llmsmc.inference import Adaptive, BootstrapFilter, systematic
    from llmsmc.models import LinearGaussian, Reasoning, SharedLanguageModel, SharedReward

    torch.set_num_threads(1)
    walk = LinearGaussian(
        initial_mean=0.0,
        initial_covariance=1 / (1 - 0.81),
        transition_matrix=0.9,
        transition_covariance=1.0,
        observation_matrix=1.0,
        observation_covariance=1.0,
    )
    source = torch.Generator().manual_seed(0)
    observations = list(torch.randn((STEPS, 1), generator=source, dtype=torch.float64))
    policy, reward = embedded_models()
    shared = SharedLanguageModel(policy), SharedReward(reward)

    def filtered(size: int, threshold: float, seed: int) -> float:
        resampler = systematic if threshold == 1 else Adaptive(systematic, threshold)
        algorithm = BootstrapFilter(size, resampler, record=False)
        repeats = max(1, 10_000 // size)
        found = [algorithm.run(walk, observations, seed=seed + n) for n in range(repeats)]
        return found[-1].log_evidence

    def resampled(size: int, _: float, seed: int) -> int:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(size, generator=generator, dtype=torch.float64)
        for _n in range(max(1, 1_000_000 // size)):
            # New weights each time, so that nothing can be remembered.
            ancestors = systematic(drawn.clone(), generator=generator).ancestors
        return int(ancestors[-1])

    def solved(question: str, size: int, seed: int, models: tuple[Any, Any]) -> float:
        writer, judge = models
        model = Reasoning(writer, judge, question, max_steps=40, max_tokens_per_step=128)
        return BootstrapFilter(size).run(model, seed=seed).log_evidence

    def reasoning(size: int, level: float, seed: int) -> list[float]:
        questions = questions_of(int(level), PROBLEMS)
        return [solved(question, size, seed, (policy, reward)) for question in questions]

    def together(size: int, level: float, seed: int) -> list[float]:
        tasks = [
            lambda question=question: solved(question, size, seed, shared)
            for question in questions_of(int(level), PROBLEMS)
        ]
        return outcomes(tasks, PROBLEMS)

    yield "filter", filtered
    yield "resample", resampled
    yield "reasoning", reasoning
    yield "reasoning together", together


def serve() -> None:
    """Do what is asked, line by line, and answer with the processor time and the value."""
    functions = dict(workers())
    for line in sys.stdin:
        name, size, level, seed = json.loads(line)
        begun = time.process_time()
        value = functions[name](size, level, seed)
        print(json.dumps([time.process_time() - begun, value]), flush=True)


class Checkout:
    """A checkout of the library in a process of its own."""

    def __init__(self, root: Path) -> None:
        """Start it; this file runs in both, with the benchmarks and the library of each."""
        variables = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            cwd=root,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, case: Case, seed: int) -> tuple[float, object]:
        """Return the seconds that a case has taken, and its value."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([*case, seed]) + "\n")
        self._process.stdin.flush()
        seconds, value = json.loads(self._process.stdout.readline())
        return seconds, value

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def compare(before: Path, rounds: int) -> Iterator[tuple[Case, list[float], bool]]:
    """Yield for each case the ratios before / after, and whether all values agree."""
    both = [Checkout(before), Checkout(ROOT)]
    try:
        ratios = {case: list[float]() for case in CASES}
        agree = dict.fromkeys(CASES, True)
        for number in range(-1, rounds):
            for case in CASES:
                turns = both if number % 2 else both[::-1]
                answers = {id(each): each.ask(case, max(number, 0)) for each in turns}
                (first, old), (second, new) = (answers[id(each)] for each in both)
                agree[case] &= old == new
                if number >= 0:  # the round before warms up
                    ratios[case].append(first / second)
        for case in CASES:
            yield case, ratios[case], agree[case]
    finally:
        for each in both:
            each.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=Path, nargs="?", help="the earlier checkout")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    print("| case | N | threshold or level | before / after | quartiles | same values |")
    print("| --- | --: | --: | --: | --: | --- |")
    for (name, size, level), ratios, agree in compare(options.before.resolve(), options.rounds):
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"| {name} | {size:,} | {level:g} | {middle:.3f} | {low:.3f} to {high:.3f} | "
            f"{'yes' if agree else 'no'} |"
        )
    return None


if __name__ == "__main__":
    main()
