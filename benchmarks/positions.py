"""The positions computed for a generated token, and the share of time outside the models.

    python -m benchmarks.positions --particles 8,32,128 --levels 3,5 --limit 3
    python -m benchmarks.positions --in-flight 8

Positions are counted where they are computed, in calls of the networks: rows times new tokens,
padding included. Particles that agree share a row, so there may be fewer positions than tokens.
Times are those of the processor: neither figure depends on how fast or how busy the machine is.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.embedded import embedded_models, outcomes, questions_of
from llmsmc.core.cost import Cost
from llmsmc.inference import BootstrapFilter
from llmsmc.models import Reasoning, SharedLanguageModel, SharedReward
from llmsmc.models.policies.policy import Policy
from llmsmc.models.rewards.reward import Reward


@dataclass
class Counter:
    """The work of a network.

    Attributes:
        calls: of the network.
        positions: rows times new tokens of all calls.
        seconds: of the processor.
    """

    calls: int = 0
    positions: int = 0
    seconds: float = field(default=0.0, repr=False)


def counted(network: nn.Module) -> Counter:
    """Return a counter of the work of the network from now on."""
    counter, forward = Counter(), network.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        begun = time.thread_time()
        output = forward(*args, **kwargs)
        ids = args[0] if args else kwargs["input_ids"]
        counter.calls += 1
        counter.positions += ids.shape[0] * ids.shape[1]
        counter.seconds += time.thread_time() - begun
        return output

    network.forward = counting
    return counter


@dataclass(frozen=True)
class Row:
    """The result for one number of particles on problems of one level."""

    level: int
    particles: int
    generated_tokens: int
    scored_tokens: int
    policy_positions: float
    reward_positions: float
    outside: float

    def __str__(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.level} | {self.particles} | {self.generated_tokens:,} "
            f"| {self.policy_positions:.3f} | {self.reward_positions:.3f} "
            f"| {self.reward_positions * self.generated_tokens / self.scored_tokens:.3f} "
            f"| {100 * self.outside:.0f} % |"
        )


def measured(level: int, num_particles: int, limit: int, in_flight: int = 1) -> Row:
    """Run the bootstrap filter on the first problems of a level."""
    policy, reward = embedded_models()
    counters = counted(policy.model), counted(reward.model.base_model)
    models: tuple[Policy, Reward] = policy, reward
    if in_flight > 1:
        models = SharedLanguageModel(policy), SharedReward(reward)
    filter_ = BootstrapFilter(num_particles, record=False)

    def run(question: str) -> Cost:
        return filter_.run(Reasoning(*models, question), seed=0).cost

    tasks = [partial(run, question) for question in questions_of(level, limit)]
    begun = time.process_time()
    cost = sum(outcomes(tasks, in_flight), start=Cost())
    seconds = time.process_time() - begun
    return Row(
        level,
        num_particles,
        cost.generated_tokens,
        cost.scored_tokens,
        counters[0].positions / cost.generated_tokens,
        counters[1].positions / cost.generated_tokens,
        1 - sum(each.seconds for each in counters) / seconds,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table in Markdown, or the rows as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--particles", default="8,32,128")
    parser.add_argument("--levels", default="3,5")
    parser.add_argument("--limit", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [
        measured(level, number, given.limit, given.in_flight)
        for level in map(int, given.levels.split(","))
        for number in map(int, given.particles.split(","))
    ]
    if given.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    head = "level | N | tokens | policy, a token | reward, a token | reward, scored | outside"
    print(f"| {head} |\n{'| --: ' * 7}|")
    print("\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
