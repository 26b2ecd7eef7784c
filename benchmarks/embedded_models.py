"""The quality of the embedded models: the policies' steps, the reward models' discrimination.

    python -m benchmarks.embedded_models --problems 200 --out docs/figures

samples both policies on problems of `minimath-dev`, which no training has seen, judges every step
with the checker and with both reward models, and writes `embedded_models.json` and the
calibration plot. Printed are the tables of the documentation. With `--again` tables and plot are
made anew from the figures that are there.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.discrimination import Sample, discrimination, step_accuracy
from llmsmc.models import LanguageModel, RewardModel
from llmsmc.models.minimath.datasets import minimath_dev
from llmsmc.models.minimath.training.samples import sample_solutions

POLICIES: Final = ("minimath-policy", "minimath-policy-small")
REWARDS: Final = ("minimath-reward", "minimath-reward-weak")


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--problems", type=int, default=200, help="problems, a fifth a level")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--again", action="store_true", help="only print and plot")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "embedded_models.json"
    if not arguments.again:
        file.write_text(json.dumps(measured(arguments.problems), indent=1) + "\n")
    found = json.loads(file.read_text())
    plot_calibration(found["rewards"], arguments.out / "calibration.png")
    print(tables(found))


def measured(num_problems: int) -> dict[str, Any]:
    """Sample, judge, and return the figures."""
    problems = minimath_dev(num_problems // 5)
    found: dict[str, Any] = {"problems": len(problems), "policies": {}, "rewards": {}}
    samples: dict[str, list[Sample]] = {}
    for name in POLICIES:
        policy = LanguageModel.from_pretrained(name)
        network: Any = policy.model
        for temperature in (0.0, 1.0):
            solutions = sample_solutions(
                network, policy.tokenizer, problems, seed=1, temperature=temperature
            )
            samples[name] = [(problem, steps) for problem, steps in solutions if steps]
            by_level = {level: asdict(a) for level, a in step_accuracy(samples[name]).items()}
            found["policies"][f"{name} at temperature {temperature:g}"] = by_level
    for name in REWARDS:
        reward = RewardModel.from_pretrained(name)
        for policy_name in POLICIES:
            chosen = samples[policy_name]
            scores = [reward.score(problem.question, list(steps)) for problem, steps in chosen]
            figures = asdict(discrimination(chosen, scores))
            found["rewards"][f"{name} on {policy_name}"] = figures
    return found


def tables(found: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines = [
        "| policy | " + " | ".join(f"level {k}" for k in range(1, 6)) + " |",
        "| --- " * 6 + "|",
    ]
    for name, levels in found["policies"].items():
        cells = [f"{100 * figures['solved']:.0f} ({100 * figures['step']:.0f})"
                 for figures in levels.values()]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| reward model and policy | AUROC to first error | all steps | log-loss | ECE |",
        "| --- " * 5 + "|",
    ]
    for name, figures in found["rewards"].items():
        lines.append(
            f"| {name} | {figures['auroc_up_to_first_error']:.3f} "
            f"| {figures['auroc_all_steps']:.3f} | {figures['log_loss']:.3f} "
            f"| {figures['expected_calibration_error']:.3f} |"
        )
    return "\n".join(lines)


def plot_calibration(rewards: dict[str, Any], path: Path) -> None:
    """Draw the observed share of right steps against the mean reward, bin by bin."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 5.4), constrained_layout=True)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfectly calibrated")
    for name, figures in rewards.items():
        means, shares, _ = zip(*figures["bins"], strict=True)
        axes.plot(means, shares, marker="o", markersize=4, linewidth=1.2, label=name)
    axes.set_xlabel("reward (mean of a tenth of the steps)")
    axes.set_ylabel("share of steps that are right")
    axes.set_title("Calibration on steps up to the first error")
    figure.legend(fontsize=8, loc="outside lower center")
    figure.savefig(path, dpi=140)


if __name__ == "__main__":
    main()
