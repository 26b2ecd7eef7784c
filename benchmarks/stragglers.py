"""The gain of particles that write on while others finish a step, one problem at a time.

    OMP_NUM_THREADS=1 python -m benchmarks.stragglers --rounds 5

solves problems with the bootstrap filter, whose particles wait for the last one of a step and write
on, in turn, and prints in Markdown how many times as fast the second is, with what it draws. Both
draw the same solutions; that is asserted. The policy and the reward of MiniMath write steps of
nearly one length; the random models write steps that end with each token with the same probability,
behind 45 tokens on average. A limit is printed beside what is gained in passes: the tokens of the
longest steps, one step after another, over those of the longest solution. No pass can write two
tokens of one solution, so that nothing that writes on can need fewer.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from benchmarks.embedded import embedded_models, questions_of
from benchmarks.engine.records import spread
from benchmarks.random_models import QUESTION, random_models
from llmsmc import Posterior
from llmsmc.core.cost import Cost
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.policies.decoding.requests import StepRequest, StepTokens
from llmsmc.models.reasoning.particles import ReasoningParticles

RARE = "w"  # in one token of 45 of the random policy


class Waiting(LanguageModel):
    """A language model that draws the tokens of one step and no others."""

    def sample_step(self, request: StepRequest) -> tuple[StepTokens, Cost]:
        """Draw one step for each of B particles."""
        return super().sample_step(replace(request, ahead=None))


@dataclass(frozen=True)
class Measured:
    """One round.

    Attributes:
        seconds: of the processor.
        wall_seconds: of the clock on the wall.
        passes: forward passes of both models.
        tokens: that the policy has drawn.
        longest: the sum over steps of the tokens of their longest.
        path: tokens of the longest solution, that of every problem added up.
        log_evidence: of each problem.
    """

    seconds: float
    wall_seconds: float
    passes: int
    tokens: int
    longest: int
    path: int
    log_evidence: list[float]


def measure(models: Sequence[Reasoning], num_particles: int) -> Measured:
    """Solve the problems, one after the other."""
    algorithm = BootstrapFilter(num_particles)
    started, began = time.process_time(), time.perf_counter()
    posteriors = [algorithm.run(model, seed=seed) for seed, model in enumerate(models)]
    seconds, wall_seconds = time.process_time() - started, time.perf_counter() - began
    lengths = [lengths_of(posterior) for posterior in posteriors]
    return Measured(
        seconds,
        wall_seconds,
        sum(posterior.cost.model_calls for posterior in posteriors),
        sum(posterior.cost.generated_tokens for posterior in posteriors),
        sum(longest for longest, _ in lengths),
        sum(path for _, path in lengths),
        [posterior.log_evidence for posterior in posteriors],
    )


def lengths_of(posterior: Posterior) -> tuple[int, int]:
    """Return the tokens of the longest steps together, and those of the longest solution."""
    assert posterior.recorded is not None
    longest = path = 0
    for t, particles in enumerate(posterior.recorded):
        assert isinstance(particles, ReasoningParticles)
        count = torch.full((len(particles),), t)
        drawn = particles.num_tokens - particles.tokens_after(
            torch.minimum(count, particles.num_transitions)
        )
        longest, path = longest + int(drawn.max()), max(path, int(particles.num_tokens.max()))
    return longest, path


def minimath(level: int, limit: int) -> Callable[[bool], list[Reasoning]]:
    """Return a maker of models of problems of a level, which write on or not."""
    policy, reward = embedded_models()
    policies = {True: policy, False: waiting(policy)}
    questions = questions_of(level, limit)
    return lambda writes_on: [
        Reasoning(policies[writes_on], reward, question, write_on=True) for question in questions
    ]


def random(num_steps: int, limit: int) -> Callable[[bool], list[Reasoning]]:
    """Return a maker of models whose steps differ in length."""
    policy, reward = random_models()
    policies = {True: policy, False: waiting(policy)}
    settings: dict[str, Any] = dict(step=RARE, max_steps=num_steps, stop_at_answer=False)
    return lambda writes_on: [
        Reasoning(policies[writes_on], reward, QUESTION, write_on=True, **settings)
        for _ in range(limit)
    ]


def waiting(policy: LanguageModel) -> LanguageModel:
    """Return the same policy, which does not write on."""
    other = Waiting(policy.model, policy.tokenizer, name=policy.name)
    other.eos_ids, other.tokens = policy.eos_ids, policy.tokens
    return other


def row(rounds: Sequence[tuple[Measured, Measured]]) -> str:
    """Return the cells for pairs of waiting and writing on, one of each round."""
    for before, now in rounds:
        pairs = list(zip(before.log_evidence, now.log_evidence, strict=True))
        same = sum(abs(one - other) < 1e-3 for one, other in pairs)
        assert same >= 0.9 * len(pairs), (same, len(pairs))
    gains = [before.seconds / now.seconds for before, now in rounds]
    wall = median(before.wall_seconds / now.wall_seconds for before, now in rounds)
    before, now = rounds[0]
    return (
        f"{spread(gains, '.2f')} | {wall:.2f} | {before.passes / now.passes:.2f} "
        f"| {before.longest / before.path:.2f} | {now.tokens / before.tokens:.2f}"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--particles", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--levels", type=int, nargs="*", default=[3, 5])
    parser.add_argument("--random-steps", type=int, default=8, help="0 for none")
    parser.add_argument("--problems", type=int, default=4, help="of each level")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {f"level {n}": minimath(n, arguments.problems) for n in arguments.levels}
    if arguments.random_steps:
        kinds["random"] = random(arguments.random_steps, arguments.problems)
    print("| problems | particles | processor time | wall-clock time | passes | limit | tokens |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, models in kinds.items():
        for num_particles in arguments.particles:
            rounds = [
                (measure(models(False), num_particles), measure(models(True), num_particles))
                for _ in range(arguments.rounds)
            ]
            print(f"| {name} | {num_particles} | {row(rounds)} |", flush=True)


if __name__ == "__main__":
    main()
