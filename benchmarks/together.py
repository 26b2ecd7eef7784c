"""The gain of several problems that share the batches of the models.

    python -m benchmarks.together --rounds 3

solves problems of `minimath-500` with the bootstrap filter, one after the other and several at a
time, in turn, and prints in Markdown how much less time of the processor a problem takes, in ratios
to one after the other, with what goes through the models: forward passes and positions of both.
The answers are the same; that is asserted.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.embedded import embedded_models, outcomes, questions_of
from benchmarks.engine.records import spread
from benchmarks.positions import counted
from llmsmc import Posterior
from llmsmc.inference import BootstrapFilter
from llmsmc.models import (
    Reasoning,
    SharedLanguageModel,
    SharedReward,
)


@dataclass(frozen=True)
class Measured:
    """One round.

    Attributes:
        seconds: of the processor.
        wall_seconds: of the clock on the wall.
        passes: forward passes of both models.
        positions: that went through both.
        answers: the log-evidence of each problem.
    """

    seconds: float
    wall_seconds: float
    passes: int
    positions: int
    log_evidence: list[float]


class Bench:
    """The models, and the positions that have gone through them."""

    def __init__(self) -> None:
        """Load the embedded models."""
        self.policy, self.reward = embedded_models()
        self.counters = counted(self.policy.model), counted(self.reward.model.base_model)

    def measure(
        self,
        questions: Sequence[str],
        num_particles: int,
        in_flight: int,
        tokens_meanwhile: int = 0,
    ) -> Measured:
        """Solve the questions, a number of them at a time."""
        algorithm = BootstrapFilter(num_particles, record=False)
        policy, reward = self.policy, self.reward
        if in_flight > 1:
            policy = SharedLanguageModel(policy)
            reward = SharedReward(reward, tokens_meanwhile=tokens_meanwhile)  # type: ignore[assignment]

        def run(seed: int, question: str) -> Posterior:
            return algorithm.run(Reasoning(policy, reward, question), seed=seed)

        tasks = [partial(run, seed, question) for seed, question in enumerate(questions)]
        passes = sum(each.calls for each in self.counters)
        positions = sum(each.positions for each in self.counters)
        started, began = time.process_time(), time.perf_counter()
        posteriors = outcomes(tasks, in_flight)
        return Measured(
            time.process_time() - started,
            time.perf_counter() - began,
            sum(each.calls for each in self.counters) - passes,
            sum(each.positions for each in self.counters) - positions,
            [posterior.log_evidence for posterior in posteriors],
        )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--particles", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--problems", type=int, default=16, help="of each level")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    bench = Bench()
    print("| level | particles | in flight | throughput | passes | positions | rows a pass |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for level in arguments.levels:
        questions = questions_of(level, arguments.problems)
        for num_particles in arguments.particles:
            rows = measure_all(bench, questions, num_particles, arguments)
            for in_flight, row in rows.items():
                print(f"| {level} | {num_particles} | {in_flight} | {row} |", flush=True)


def measure_all(
    bench: Bench, questions: Sequence[str], num_particles: int, arguments: argparse.Namespace
) -> dict[int, str]:
    """Return the cells for each number of problems in flight, which take turns."""
    counts = [1, *arguments.in_flight]
    rounds = [
        {count: bench.measure(questions, num_particles, count) for count in counts}
        for _ in range(arguments.rounds)
    ]
    cells = {}
    for count in counts:
        ratios = [each[1].seconds / each[count].seconds for each in rounds]
        alone, here = rounds[0][1], rounds[0][count]
        require_same_answers(alone, here)
        cells[count] = (
            f"{spread(ratios, '.2f')} "
            f"| {here.passes / alone.passes:.2f} | {here.positions / alone.positions:.2f} "
            f"| {here.positions / here.passes:.1f}"
        )
    return cells


def require_same_answers(one: Measured, other: Measured) -> None:
    """Require nearly all answers to be the same; one draw in many thousands differs."""
    pairs = list(zip(one.log_evidence, other.log_evidence, strict=True))
    same = sum(abs(before - now) < 1e-3 for before, now in pairs)
    assert same >= 0.9 * len(pairs), (same, len(pairs))


if __name__ == "__main__":
    main()
