"""This checkout beside an earlier one, in turns: no change may make anything slower.

    python -m benchmarks.checkouts FOLDER --seconds 40

Each checkout is a process of its own with one thread, which works only while it is asked. They take
turns of a fraction of a second, in changing order, because the speed of a machine drifts. Compared
are processor times: the median of before / after over the pairs of turns with its standard error,
and the ratio of the shortest turns. Above 1, this checkout is faster. The values that both compute,
log-evidences to the last bit, are compared, too.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SIZES: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
THRESHOLDS: Final = (1.0, 0.5)
STEPS: Final = 100
PARTICLES: Final = 32
LEVELS: Final = (3, 5)
PROBLEMS: Final = 8
"""The first problems of a level, one a turn; all of them when they run together."""
IN_FLIGHT: Final = 4
MIN_PAIRS: Final = 5

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
        repeats = max(1, 2_000 // size)
        found = [algorithm.run(walk, observations, seed=seed + n) for n in range(repeats)]
        return found[-1].log_evidence

    def resampled(size: int, _: float, seed: int) -> int:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(size, generator=generator, dtype=torch.float64)
        for _n in range(max(1, min(500, 1_000_000 // size))):
            # New weights each time, so that nothing can be remembered.
            ancestors = systematic(drawn.clone(), generator=generator).ancestors
        return int(ancestors[-1])

    def solved(question: str, size: int, seed: int, models: tuple[Any, Any]) -> float:
        writer, judge = models
        model = Reasoning(writer, judge, question, max_steps=40, max_tokens_per_step=128)
        return BootstrapFilter(size).run(model, seed=seed).log_evidence

    questions = {level: questions_of(level, PROBLEMS) for level in LEVELS}

    def reasoning(size: int, level: float, seed: int) -> float:
        question = questions[int(level)][seed % PROBLEMS]
        return solved(question, size, seed, (policy, reward))

    def together(size: int, level: float, seed: int) -> list[float]:
        tasks = [
            lambda question=question: solved(question, size, seed, shared)
            for question in questions[int(level)][:IN_FLIGHT]
        ]
        return outcomes(tasks, IN_FLIGHT)

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


@dataclass(frozen=True)
class Comparison:
    """The turns of a case.

    Attributes:
        before: the seconds of the earlier checkout.
        after: the seconds of this one.
        agree: whether all values were the same.
    """

    before: list[float]
    after: list[float]
    agree: bool

    @property
    def ratios(self) -> list[float]:
        """Before / after, for each pair of turns."""
        return [old / new for old, new in zip(self.before, self.after, strict=True)]

    @property
    def standard_error(self) -> float:
        """The standard error of the median of the ratios, by the bootstrap."""
        source = random.Random(0)
        draws = [source.choices(self.ratios, k=len(self.ratios)) for _ in range(500)]
        return statistics.stdev(statistics.median(draw) for draw in draws)


def compare(case: Case, both: Sequence[Checkout], seconds: float) -> Comparison:
    """Let both take turns at a case for so many seconds; the first turn of each warms up."""
    before, after, agree, began, number = list[float](), list[float](), True, time.monotonic(), -1
    while time.monotonic() - began < seconds or number < MIN_PAIRS:
        turns = both if number % 2 else both[::-1]
        answers = {id(each): each.ask(case, max(number, 0)) for each in turns}
        (first, old), (second, new) = (answers[id(each)] for each in both)
        agree &= old == new
        if number >= 0:
            before.append(first)
            after.append(second)
        number += 1
    return Comparison(before, after, agree)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=Path, nargs="?", help="the earlier checkout")
    parser.add_argument("--seconds", type=float, default=40.0, help="for each case")
    parser.add_argument("--only", help="the cases whose name begins like this")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    print("| case | N | threshold or level | pairs | before / after | of minima | same values |")
    print("| --- | --: | --: | --: | --: | --: | --- |")
    both = [Checkout(options.before.resolve()), Checkout(ROOT)]
    try:
        for case in CASES:
            name, size, level = case
            if options.only is not None and not name.startswith(options.only):
                continue
            found = compare(case, both, options.seconds)
            print(
                f"| {name} | {size:,} | {level:g} | {len(found.before)} | "
                f"{statistics.median(found.ratios):.3f} ± {found.standard_error:.3f} | "
                f"{min(found.before) / min(found.after):.3f} | {'yes' if found.agree else 'no'} |",
                flush=True,
            )
    finally:
        for each in both:
            each.close()
    return None


if __name__ == "__main__":
    main()
