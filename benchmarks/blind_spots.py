"""What no filter can mend: problems on which the small policy never proposes a right step.

    python -m benchmarks.blind_spots --limit 200 --particles 4 16 64

solves problems of minimath-500 with both policies under the exact checker, and tells apart those
that meet a blind spot of the small policy (a quotient of 8 or more, or "less" in a story).
"""

import argparse
from collections.abc import Sequence
from typing import Final

from benchmarks.coverage import is_solved
from llmsmc.models import LanguageModel
from llmsmc.models.minimath.arithmetic import Exact
from llmsmc.models.minimath.datasets import load
from llmsmc.models.minimath.problem import Problem

POLICIES: Final = ("minimath-policy", "minimath-policy-small")


class Watchful(Exact):
    """Calculates rightly, and takes note of what the small policy cannot do.

    Attributes:
        met: whether a blind spot has been met.
    """

    met = False

    def divide(self, left: int, right: int) -> int:
        """Return the quotient, rounded down."""
        self.met |= left // right >= 8
        return super().divide(left, right)

    def confuses(self, misconception: str) -> bool:
        """Return False: it never does."""
        self.met |= misconception == "less"
        return False


def meets_blind_spot(problem: Problem) -> bool:
    """Whether the right solution goes through a blind spot of the small policy."""
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
    groups = {
        "without a blind spot": [p for p in problems if not meets_blind_spot(p)],
        "with a blind spot": [p for p in problems if meets_blind_spot(p)],
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
