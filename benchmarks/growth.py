"""The growth of the cost of a run with particles, steps, the prompt, and problems in flight.

    python -m benchmarks.growth

writes docs/figures/growth.json and growth.svg, and prints the tables of docs/growth.md. Particles,
steps and prompts are varied with models of the shape of the embedded ones, whose weights are random
and whose texts never end, so that one thing changes at a time; problems in flight are those of
`minimath-500`, with the embedded models. Positions are counted in calls of the networks, times are
those of the processor, in ratios to the first point.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks import footprint, where_time_goes
from benchmarks.embedded import embedded_models, outcomes, questions_of
from benchmarks.positions import counted
from benchmarks.random_models import endless, question_of, random_models
from llmsmc.core.cost import Cost
from llmsmc.inference import BootstrapFilter
from llmsmc.models import LanguageModel, Reasoning, RewardModel, SharedLanguageModel, SharedReward

FIGURES: Final = Path(__file__).resolve().parent.parent / "docs" / "figures"
SIZES: Final = {
    "particles": (8, 16, 32, 64, 128, 256),
    "steps": (4, 8, 16, 32, 64),
    "prompt": (64, 128, 256, 512, 1024),
    "in flight": (1, 2, 4, 8, 16, 32),
}
NUM_PARTICLES, NUM_STEPS, STEP, PROMPT = 16, 4, 8, 64  # of what is not varied
LEVEL, PROBLEMS, FEW = 1, 32, 4  # of those in flight, with so many particles

LABELS: Final = {
    "particles": "particles N",
    "steps": f"steps T of {STEP} tokens",
    "prompt": "tokens of the prompt",
    "in flight": "problems in flight",
}


@dataclass(frozen=True)
class Point:
    """The cost of a run of one size.

    Attributes:
        size: of what is varied.
        generated_tokens: by all particles.
        policy_positions: rows times new tokens of all calls of the policy, padding included.
        reward_positions: the same of the reward model.
        seconds: of the processor; relative to the first point in the end.
        outside: the share that is not spent in the networks.
    """

    size: int
    generated_tokens: int
    policy_positions: int
    reward_positions: int
    seconds: float
    outside: float


def point(size: int, policy: LanguageModel, reward: RewardModel, run: Callable[[], Cost]) -> Point:
    """Return what a run has cost."""
    networks: tuple[Any, Any] = policy.model, reward.model.base_model
    originals = [network.forward for network in networks]
    counters = [counted(network) for network in networks]
    begun = time.process_time()
    cost = run()
    seconds = time.process_time() - begun
    for network, original in zip(networks, originals, strict=True):
        network.forward = original
    of_policy, of_reward = counters
    return Point(
        size,
        cost.generated_tokens,
        of_policy.positions,
        of_reward.positions,
        seconds,
        1 - sum(counter.seconds for counter in counters) / seconds,
    )


def controlled() -> Iterator[tuple[str, list[Point]]]:
    """Yield the curves over particles, steps and prompts."""
    policy, reward = random_models()

    def measured(size: int, particles: int, steps: int, prompt: int) -> Point:
        model = endless(policy, reward, steps, STEP, question_of(policy, prompt))
        filter_ = BootstrapFilter(particles, record=False)
        return point(size, policy, reward, lambda: filter_.run(model, seed=0).cost)

    measured(0, 2, 2, PROMPT)  # what is set up once
    for name in ("particles", "steps", "prompt"):
        usual = {"particles": NUM_PARTICLES, "steps": NUM_STEPS, "prompt": PROMPT}
        yield name, [measured(size, **{**usual, name: size}) for size in SIZES[name]]


def together() -> list[Point]:
    """Return the curve over problems in flight."""
    policy, reward = embedded_models()
    shared = SharedLanguageModel(policy), SharedReward(reward)
    questions = questions_of(LEVEL, PROBLEMS)
    filter_ = BootstrapFilter(FEW, record=False)

    def cost_of(question: str) -> Cost:
        return filter_.run(Reasoning(*shared, question), seed=0).cost

    def run(in_flight: int) -> Cost:
        tasks = [partial(cost_of, question) for question in questions]
        return sum(outcomes(tasks, in_flight), start=Cost())

    filter_.run(Reasoning(policy, reward, questions[0]), seed=0)
    return [point(n, policy, reward, partial(run, n)) for n in SIZES["in flight"]]


def relative(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the points, their times in ratios to the first."""
    first = points[0].seconds
    return [
        {
            **asdict(each),
            "seconds": round(each.seconds / first, 3),
            "outside": round(each.outside, 3),
        }
        for each in points
    ]


def table(name: str, points: Sequence[dict[str, Any]]) -> str:
    """Return a curve as a table in Markdown."""
    head = (
        f"{LABELS[name]} | generated tokens | policy positions | reward positions | time | outside"
    )
    rows = [
        f"| {each['size']} | {each['generated_tokens']:,} | {each['policy_positions']:,} "
        f"| {each['reward_positions']:,} | {each['seconds']:.2f} | {100 * each['outside']:.0f} % |"
        for each in points
    ]
    return "\n".join([f"| {head} |", "| --: " * 6 + "|", *rows])


def save_figure(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw each curve relative to its first point, beside a line of slope 1."""
    from matplotlib import style
    from matplotlib.figure import Figure

    kinds = {
        "generated_tokens": "generated tokens",
        "policy_positions": "policy positions",
        "reward_positions": "reward positions",
        "seconds": "time of the processor",
    }
    with as_file(files("llmsmc.ablations") / "ablations.mplstyle") as sheet, style.context(sheet):
        figure = Figure(figsize=(7.2, 6.0))
        panels = figure.subplots(2, 2).flat
        for axes, (name, points) in zip(panels, curves.items(), strict=True):
            sizes = [each["size"] for each in points]
            for key, label in kinds.items():
                values = [each[key] / points[0][key] for each in points]
                axes.plot(sizes, values, label=label)
            if name != "in flight":
                line = [size / sizes[0] for size in sizes]
                axes.plot(sizes, line, color="0.6", linestyle=":", marker="", label="slope 1")
                axes.set_yscale("log", base=2)
                axes.yaxis.set_major_formatter("{x:g}")
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.set_xlabel(LABELS[name])
            axes.set_ylabel("relative to the first point")
        figure.axes[0].legend()
        figure.axes[3].set_ylim(bottom=0)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the figure and its numbers, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder of the figure")
    parser.add_argument("--draw-only", action="store_true", help="from the numbers written before")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    numbers = given.out / "growth.json"
    if not given.draw_only:
        curves = {name: relative(points) for name, points in controlled()}
        curves["in flight"] = relative(together())
        shares = where_time_goes.shares(32, 5, 1)
        numbers.write_text(json.dumps({"curves": curves, "shares": shares}, indent=1) + "\n")
    found = json.loads(numbers.read_text())
    save_figure(found["curves"], given.out / "growth.svg")
    for name, points in found["curves"].items():
        print(f"{table(name, points)}\n")
    print(f"{where_time_goes.table(found['shares'])}\n")
    print("\n".join(footprint.lines()))


if __name__ == "__main__":
    main()
