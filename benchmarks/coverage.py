"""What a filter can reach with a policy: the exact checker in place of the reward model.

    python -m benchmarks.coverage --policy minimath-policy --limit 100 --particles 32

A particle whose newest step states something false gets almost no weight. What is still not solved
then cannot be solved by any reward model: the policy never proposes a right step there.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmsmc.errors import DegenerateWeightsError
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.minimath.checker import check_steps
from llmsmc.models.minimath.datasets import load
from llmsmc.models.minimath.problem import Problem
from llmsmc.models.reasoning_particles import ReasoningParticles

WRONG = -30.0
"""Log-likelihood of a wrong step; not minus infinity, so that a run in which all fail goes on."""


@dataclass(frozen=True, eq=False)
class Checked(Reasoning):
    """Reasoning judged by the exact checker of a MiniMath problem."""

    problem: Problem | None = None

    def log_likelihood(
        self, t: int, previous: ReasoningParticles | None, state: ReasoningParticles, y: Any
    ) -> Tensor:
        """Return 0 where the newest step is right, and `WRONG` where it is not."""
        assert self.problem is not None
        values = []
        for n, steps in enumerate(state.steps):
            old = 0 if previous is None else len(previous.steps[n])
            verdicts = check_steps(self.problem, steps[old:])
            values.append(0.0 if all(verdict.correct for verdict in verdicts) else WRONG)
        return torch.tensor(values, dtype=torch.float64)


def is_solved(policy: LanguageModel, problem: Problem, num_particles: int, seed: int) -> bool:
    """Return whether the most probable answer is right, under a filter with the checker."""
    model = Checked(policy, None, problem.question, problem=problem)
    try:
        answers = BootstrapFilter(num_particles, record=False).run(model, seed=seed).answers()
    except DegenerateWeightsError:
        return False
    return next(iter(answers)) == problem.answer


def main() -> None:
    """Measure and print the share of problems solved, by level and by family."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--policy", default="minimath-policy")
    parser.add_argument("--quantization", default="none")
    parser.add_argument("--dataset", default="minimath-500")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--particles", type=int, default=32)
    arguments = parser.parse_args()
    policy = LanguageModel.from_pretrained(arguments.policy, arguments.quantization)
    solved: dict[str, list[bool]] = defaultdict(list)
    for number, problem in enumerate(load(arguments.dataset)[: arguments.limit]):
        right = is_solved(policy, problem, arguments.particles, seed=number)
        solved[f"level {problem.level}"].append(right)
        solved[problem.family].append(right)
    print("| group | solved, % | problems |\n| --- | --- | --- |")
    for group, rows in sorted(solved.items()):
        print(f"| {group} | {100 * sum(rows) / len(rows):.1f} | {len(rows)} |")


if __name__ == "__main__":
    main()
