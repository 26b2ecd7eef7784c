"""The costs and gains of quantization of the policy: accuracy, speed, size, distance in law.

    python -m benchmarks.quantization --limit 250 --particles 16

evaluates the bootstrap filter on minimath-500 with the policy in each precision, solves the same
problems with all of them in turn for the speed, and measures on solutions of the full-precision
policy the mean Kullback-Leibler divergence a token. Last, each kind proposes steps that the policy
in full precision weighs: the effective sample size that is left of the particles after one step, by
the ratio of both probabilities alone, is what quantization costs a guided filter.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor

from llmsmc.inference import Adaptive, BootstrapFilter, GuidedFilter
from llmsmc.models import LanguageModel, Reasoning, RewardModel
from llmsmc.models.minimath.datasets import load, minimath_dev
from llmsmc.models.minimath.training.samples import sample_solutions
from llmsmc.models.reasoning.particles import ReasoningParticles

KINDS: Final = ("none", "int8", "nf4", "fp4")


def main() -> None:
    """Measure and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=250)
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5, help="of the measurement of speed")
    parser.add_argument("--jobs", type=int, default=1, help="evaluations side by side")
    parser.add_argument("--out", type=Path, default=Path("runs/quantization"))
    arguments = parser.parse_args()
    policies = {kind: LanguageModel.from_pretrained("minimath-policy", kind) for kind in KINDS}
    speeds = tokens_a_second(policies, arguments.particles, arguments.rounds)
    divergences = divergence_a_token(policies)
    sizes = sizes_as_proposals(policies)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = dict(
            zip(KINDS, pool.map(lambda kind: accuracy(kind, arguments), KINDS), strict=True)
        )
    print("| quantization | accuracy, % | speed | weights, MB | KL a token, nats | ESS / N |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        network: Any = policies[kind].model
        ratios = [speed / full for speed, full in zip(speeds[kind], speeds["none"], strict=True)]
        size = network.get_memory_footprint() / 1e6
        print(
            f"| {kind} | {100 * found[kind]['accuracy']:.1f} ± "
            f"{100 * found[kind]['standard_error']:.1f} "
            f"| {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {size:.2f} | {divergences[kind]:.4f} | {sizes[kind]} |"
        )


def accuracy(kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the accuracy of the bootstrap filter, with its standard error."""
    folder = arguments.out / f"{kind}-{arguments.particles}"
    command = [sys.executable, "-m", "llmsmc", "eval", "minimath-500", "--out", str(folder)]
    command += ["--limit", str(arguments.limit), "--particles", str(arguments.particles)]
    command += ["--quantization", kind]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    overall: dict[str, Any] = json.loads((folder / "summary.json").read_text())["overall"]
    return overall


def tokens_a_second(
    policies: dict[str, LanguageModel], num_particles: int, num_rounds: int
) -> dict[str, list[float]]:
    """Return the tokens a second of the policy alone in each round; the kinds take turns."""
    reward = RewardModel.from_pretrained("minimath-reward")
    problems = load("minimath-500")[2:5]  # of levels 3 to 5
    speeds: dict[str, list[float]] = {kind: [] for kind in policies}
    for seed in range(num_rounds):
        for kind, policy in policies.items():
            models = [Reasoning(policy, reward, problem.question) for problem in problems]
            costs = [BootstrapFilter(num_particles).run(m, seed=seed).cost for m in models]
            tokens = sum(cost.generated_tokens for cost in costs)
            speeds[kind].append(tokens / sum(cost.policy_seconds for cost in costs))
    return speeds


def sizes_as_proposals(
    policies: dict[str, LanguageModel], num_particles: int = 64, num_problems: int = 20
) -> dict[str, str]:
    """Effective sample size after one step over N, the mean over steps and the least, by kind."""
    questions = [problem.question for problem in minimath_dev(num_problems // 5)]
    found = {}
    for kind, proposal in policies.items():
        shares = shares_left(policies["none"], proposal, questions, num_particles)
        found[kind] = f"{sum(shares) / len(shares):.3f} (least {min(shares):.3f})"
    return found


class Unjudged(Reasoning):
    """Reasoning whose target is the law of the policy itself, at the sampling temperature."""

    def log_tilt(self, state: ReasoningParticles) -> Tensor:
        """Return zero: nothing is judged."""
        return torch.zeros(len(state), dtype=torch.float64)


def shares_left(
    full: LanguageModel,
    proposal: LanguageModel,
    questions: Sequence[str],
    num_particles: int,
    **settings: Any,
) -> list[float]:
    """Return the effective sample size over N after each step that a proposal draws.

    All weights are made equal before each step, so that what is left is due to the ratio of the
    policy's probability of the step to that of the proposal.

    Args:
        full: the policy, which weighs the steps.
        proposal: the policy that draws them.
        questions: the questions; the seed of each is its place.
        num_particles: N.
        settings: of `Reasoning`, such as the temperature; by default 1.
    """
    shares = list[float]()
    for seed, question in enumerate(questions):
        model = Unjudged(full, None, question, proposal_policy=proposal, **settings)
        filtered = GuidedFilter(num_particles, Adaptive(ess_threshold=1.0), record=False)
        history = filtered.run(model, seed=seed).history
        shares += [record.effective_sample_size / num_particles for record in history]
    return shares


def divergence_a_token(
    policies: dict[str, LanguageModel], num_problems: int = 50
) -> dict[str, float]:
    """Return the mean KL divergence of each kind from full precision, over tokens of solutions."""
    full = policies["none"]
    network: Any = full.model
    problems = minimath_dev(num_problems // 5)
    solutions = list(sample_solutions(network, full.tokenizer, problems, seed=2))
    texts = []
    for problem, steps in solutions:
        answer = full.tokenizer.encode("\n\n".join(steps), add_special_tokens=False)
        texts.append((full.prompt_ids(problem.question), answer))
    return {
        kind: sum(map(sum, divergences(full, other, texts))) / sum(len(t) for _, t in texts)
        for kind, other in policies.items()
    }


@torch.no_grad()
def divergences(
    full: LanguageModel,
    other: LanguageModel,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> list[list[float]]:
    """Return the KL divergence D(full || other) at each token of each text, in nats.

    Args:
        full: the policy of the first law.
        other: the policy of the second law, with the same tokens.
        texts: the tokens of a prompt, and those behind it at which the laws are compared.
    """
    found = []
    for prompt, answer in texts:
        ids, kept = torch.tensor([[*prompt, *answer]]), len(answer) + 1
        networks: tuple[Any, Any] = full.model, other.model
        p, q = (
            network(input_ids=ids, logits_to_keep=kept).logits[0, :-1].float().log_softmax(-1)
            for network in networks
        )
        found.append((p.exp() * (p - q)).sum(-1).tolist())
    return found


if __name__ == "__main__":
    main()
