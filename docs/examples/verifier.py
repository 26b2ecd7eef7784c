"""A program that checks each step as the likelihood: text goes in as data, a verdict comes out."""

from dataclasses import dataclass

import torch

from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.minimath.checker import num_correct_steps
from llmsmc.models.minimath.datasets import load
from llmsmc.models.minimath.problem import Problem


@dataclass(frozen=True, eq=False)
class Verified(Reasoning):
    """The target is p(x) times 0.001 to the number of steps from the first wrong one on."""

    problem: Problem | None = None

    def log_tilt(self, state):
        wrong = [len(steps) - num_correct_steps(self.problem, steps) for steps in state.steps]
        return torch.tensor(wrong, dtype=torch.float64) * torch.tensor(0.001).log()


if __name__ == "__main__":
    problem = load("minimath-500")[3]
    policy = LanguageModel.from_pretrained("minimath-policy")
    model = Verified(policy, None, problem.question, problem=problem)
    posterior = BootstrapFilter(32).run(model, seed=0)
    print(posterior, posterior.answers(), f"right: {problem.answer}", sep="\n")
