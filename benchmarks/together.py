"""What it gains that several problems share the batches of the models.

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
from statistics import median
from typing import Any

from llmsmc import Posterior, run_together
from llmsmc.inference import BootstrapFilter
from llmsmc.models import (
    LanguageModel,
    Reasoning,
    RewardModel,
    SharedLanguageModel,
    SharedReward,
)
from llmsmc.models.minimath.datasets import load


@dataclass
class Traffic:
    """What has gone through a network: forward passes and positions."""

    passes: int = 0
    positions: int = 0

    def watch(self, network: Any) -> None:
        """Count from now on what goes through the network."""
        network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, network: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        self.passes += 1
        self.positions += keywords["input_ids"].numel()


@dataclass(frozen=True)
class Measured:
    """One round.

    Attributes:
        seconds: of the processor.
        passes: forward passes of both models.
        positions: that went through both.
        answers: the log-evidence of each problem.
    """

    seconds: float
    passes: int
    positions: int
    log_evidence: list[float]


class Bench:
    """The models, and what has gone through them."""

    def __init__(self) -> None:
        """Load the embedded models."""
        self.policy = LanguageModel.from_pretrained("minimath-policy")
        self.reward = RewardModel.from_pretrained("minimath-reward")
        self.traffic = Traffic()
        self.traffic.watch(self.policy.model)
        self.traffic.watch(self.reward.model.base_model)

    def measure(self, questions: Sequence[str], num_particles: int, in_flight: int) -> Measured:
        """Solve the questions, so many at a time."""
        algorithm = BootstrapFilter(num_particles, record=False)
        policy, reward = self.policy, self.reward
        if in_flight > 1:
            policy, reward = SharedLanguageModel(policy), SharedReward(reward)  # type: ignore[assignment]

        def run(seed: int, question: str) -> Posterior:
            return algorithm.run(Reasoning(policy, reward, question), seed=seed)

        tasks = [partial(run, seed, question) for seed, question in enumerate(questions)]
        passes, positions = self.traffic.passes, self.traffic.positions
        started = time.process_time()
        outcomes = dict(run_together(tasks, in_flight))
        seconds = time.process_time() - started
        evidence = list[float]()
        for seed in range(len(questions)):
            outcome = outcomes[seed]
            if isinstance(outcome, Exception):
                raise outcome
            evidence.append(outcome.log_evidence)
        return Measured(
            seconds, self.traffic.passes - passes, self.traffic.positions - positions, evidence
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
        problems = [each for each in load("minimath-500") if each.level == level]
        questions = [each.question for each in problems[: arguments.problems]]
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
        pairs = zip(alone.log_evidence, here.log_evidence, strict=True)
        same = sum(abs(one - other) < 1e-3 for one, other in pairs)
        assert same >= 0.9 * len(questions), (same, len(questions))
        cells[count] = (
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {here.passes / alone.passes:.2f} | {here.positions / alone.positions:.2f} "
            f"| {here.positions / here.passes:.1f}"
        )
    return cells


if __name__ == "__main__":
    main()
