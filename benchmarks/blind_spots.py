"""A limit of filters: steps that the small policy hardly ever gets right.

    python -m benchmarks.blind_spots --limit 200 --particles 4 16 64

reads what probability both policies give to the right step where the small one has a blind spot (a
quotient of 8 or more, or "less" in a story), then solves problems of minimath-500 with both under
the exact checker, and tells apart those that meet one.
"""

import argparse
from collections.abc import Sequence
from statistics import median
from typing import Final

from benchmarks.coverage import is_solved
from llmsmc.models import LanguageModel
from llmsmc.models.minimath.datasets import load
from llmsmc.models.minimath.problem import STEP_SEPARATOR, Problem
from llmsmc.models.minimath.world.arithmetic import Exact

POLICIES: Final = ("minimath-policy", "minimath-policy-small")


class Watchful(Exact):
    """An exact calculator that takes note of the blind spots of the small policy.

    Attributes:
        met: whether a blind spot has been met.
    """

    met = False

    def calculate(self, sign: str, left: int, right: int) -> int:
        """Return `left sign right`."""
        result = super().calculate(sign, left, right)
        self.met |= sign == "/" and result >= 8
        return result

    def confuses(self, misconception: str) -> bool:
        """Return False: no misconception strikes."""
        self.met |= misconception == "less"
        return False


class Blind(Exact):
    """A calculator with one blind spot of the small policy, and no other error."""

    def __init__(self, spot: str) -> None:
        """Take "quotient" or "less"."""
        self.spot = spot

    def calculate(self, sign: str, left: int, right: int) -> int:
        """Return `left sign right`; a quotient is one too small where it is 8 or more."""
        result = super().calculate(sign, left, right)
        return result - (self.spot == "quotient" and sign == "/" and result >= 8)

    def confuses(self, misconception: str) -> bool:
        """Return whether "less" is read as plus."""
        return self.spot == misconception == "less"


def right_step(problem: Problem, spot: str) -> tuple[str, str] | None:
    """Return the first step at which the blind spot strikes, done rightly, and all before it."""
    right, wrong = problem.solution(), problem.solution(Blind(spot))
    for place, (step, other) in enumerate(zip(right, wrong, strict=False)):
        if step != other:
            return STEP_SEPARATOR.join([*right[:place], ""]), step + STEP_SEPARATOR
    return None


def probability(policy: LanguageModel, problem: Problem, before: str, step: str) -> float:
    """Return the probability of the words of the step, given the words before it."""
    prompt = policy.prompt_ids(problem.question)
    ids = [policy.tokenizer.encode(text, add_special_tokens=False) for text in (before, step)]
    return float(policy.log_probs([*prompt, *ids[0]], ids[1]).sum().exp())


def probabilities_table(problems: Sequence[Problem]) -> str:
    """Return the quantiles of the probability of the right step at blind spots, in Markdown."""
    lines = ["| policy | blind spot | steps | median | below 1/16 | below 1/64 | below 1/1,000 |"]
    lines.append("| --- " * 7 + "|")
    for name in POLICIES:
        policy = LanguageModel.from_pretrained(name)
        for spot in ("quotient", "less"):
            found = [(problem, right_step(problem, spot)) for problem in problems]
            masses = [probability(policy, problem, *step) for problem, step in found if step]
            shares = [
                f"{100 * sum(mass < limit for mass in masses) / len(masses):.0f} %"
                for limit in (1 / 16, 1 / 64, 1 / 1000)
            ]
            lines.append(
                f"| {name} | {spot} | {len(masses)} | {median(masses):.4f} | {' | '.join(shares)} |"
            )
    return "\n".join(lines)


def meets_blind_spot(problem: Problem) -> bool:
    """Return whether the right solution goes through a blind spot of the small policy."""
    calculator = Watchful()
    problem.solution(calculator)
    return calculator.met


def main() -> None:
    """Measure and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--particles", type=int, nargs="+", default=[4, 16, 64])
    arguments = parser.parse_args()
    problems = load("minimath-500")[: arguments.limit]
    print(probabilities_table(problems) + "\n", flush=True)
    groups = {
        "without a blind spot": [p for p in problems if not meets_blind_spot(p)],
        "with a blind spot": [p for p in problems if meets_blind_spot(p)],
        'with "less" among them': [p for p in problems if right_step(p, "less")],
    }
    counts = " | ".join(f"{count} particles" for count in arguments.particles)
    print(f"| policy | problems | {counts} |\n" + "| --- " * (2 + len(arguments.particles)) + "|")
    for name in POLICIES:
        policy = LanguageModel.from_pretrained(name)
        for group, chosen in groups.items():
            cells = [share_solved(policy, chosen, count) for count in arguments.particles]
            print(f"| {name} | {len(chosen)} {group} | {' | '.join(cells)} |", flush=True)


def share_solved(policy: LanguageModel, problems: Sequence[Problem], num_particles: int) -> str:
    """Return the percentage of problems solved, with its standard error."""
    solved = [
        is_solved(policy, problem, num_particles, seed) for seed, problem in enumerate(problems)
    ]
    share = sum(solved) / len(solved)
    error = (share * (1 - share) / len(solved)) ** 0.5
    return f"{100 * share:.1f} ± {100 * error:.1f} %"


if __name__ == "__main__":
    main()
