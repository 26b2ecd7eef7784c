"""The reach of a filter with a policy: the exact checker in place of the reward model.

    python -m benchmarks.coverage --policy minimath-policy --limit 100 --particles 32

A particle whose newest step states something false gets almost no weight. What is still not solved
then cannot be solved by any reward model: the policy never proposes a right step there.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llmsmc.errors import DegenerateWeightsError
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.minimath.checker import check_steps
from llmsmc.models.minimath.datasets import load
from llmsmc.models.minimath.problem import Problem
from llmsmc.models.reasoning.particles import ReasoningParticles

WRONG = -30.0
"""Log-likelihood of a wrong step; not minus infinity, so that a run in which all fail goes on."""


@dataclass(frozen=True, eq=False)
class Checked(Reasoning):
    """Reasoning judged by the exact checker of a MiniMath problem."""

    problem: Problem | None = None
    verdicts: dict[str, bool] = field(default_factory=dict)

    def log_tilt(self, state: ReasoningParticles) -> Tensor:
        """Return `WRONG` for each step that is wrong."""
        values = [WRONG * sum(not self.is_right(step) for step in steps) for steps in state.steps]
        return torch.tensor(values, dtype=torch.float64)

    def is_right(self, step: str) -> bool:
        """Return the verdict of the checker; many particles write the same step."""
        if step not in self.verdicts:
            assert self.problem is not None
            self.verdicts[step] = check_steps(self.problem, [step])[0].correct
        return self.verdicts[step]


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
