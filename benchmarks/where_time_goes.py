"""The parts of the time of a run, as shares of the time of the processor.

    python -m benchmarks.where_time_goes --particles 32 --level 5 --limit 2

The bootstrap filter on problems of `minimath-500`, with the embedded models on one core.
"""

import argparse
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.embedded import embedded_models, questions_of
from benchmarks.stopwatch import Stopwatch
from llmsmc.inference import BootstrapFilter
from llmsmc.inference.filters import bootstrap_filter
from llmsmc.models import LanguageModel, Reasoning
from llmsmc.models.rewards import reward_model

POLICY, REWARD = "policy network", "reward network"
TOKENS = "sampling: token loop, drawing, caches"
SCORING = "scoring: layouts, caches, batches"
TEXT = "text and reasoning: decoding, steps, answers, potentials"
RESAMPLING = "resampling"
REST = "filter: weights, record"


def shares(num_particles: int, level: int, limit: int) -> dict[str, float]:
    """Return the share of each section."""
    policy, reward = embedded_models()
    watch = Stopwatch()
    network: Any = reward.model.base_model
    policy.model.forward = watch.timed(POLICY, policy.model.forward)
    network.forward = watch.timed(REWARD, network.forward)
    sections = [
        (LanguageModel, "sample_step", TOKENS),
        (reward_model, "score_together", SCORING),
        (Reasoning, "sample_initial", TEXT),
        (Reasoning, "sample_transition", TEXT),
        (Reasoning, "log_likelihood", TEXT),
        (bootstrap_filter, "resample", RESAMPLING),
        (BootstrapFilter, "run", REST),
    ]
    patches = [
        patch.object(owner, name, watch.timed(section, getattr(owner, name)))
        for owner, name, section in sections
    ]
    questions = questions_of(level, limit)
    BootstrapFilter(4, record=False).run(Reasoning(policy, reward, questions[0]), seed=0)
    watch.seconds.clear()
    for each in patches:
        each.start()
    try:
        for question in questions:
            model = Reasoning(policy, reward, question)
            BootstrapFilter(num_particles, record=False).run(model, seed=0)
    finally:
        for each in patches:
            each.stop()
    total = sum(watch.seconds.values())
    names = (POLICY, REWARD, TOKENS, SCORING, TEXT, RESAMPLING, REST)
    return {name: watch.seconds[name] / total for name in names}


def table(found: dict[str, float]) -> str:
    """Return the shares as a table in Markdown."""
    rows = [f"| {name} | {100 * share:.1f} % |" for name, share in found.items()]
    return "\n".join(["| | share |", "| --- | --: |", *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--particles", type=int, default=32)
    parser.add_argument("--level", type=int, default=5)
    parser.add_argument("--limit", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(table(shares(given.particles, given.level, given.limit)))


if __name__ == "__main__":
    main()
