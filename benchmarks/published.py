"""The differences of published figures beside their noise.

    python -m benchmarks.published

For pairs of accuracies of the paper: their difference, its standard error if the two are
independent binomial shares of as many problems, and what the difference would have to be to be told
from chance in 19 of 20 cases. One run each, so nothing more is known of the noise; pairing on the
same problems, which would lessen it, was not reported.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

MATH500, SUBSET, AIME = 500, 100, 30
QUANTILE: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Pair:
    """Two published accuracies of the same number of problems."""

    where: str
    claim: str
    left: float
    right: float
    problems: int

    @property
    def error(self) -> float:
        """The standard error of the difference of two independent shares."""
        variance = sum(share * (1 - share) for share in (self.left, self.right))
        return math.sqrt(variance / self.problems)

    def row(self) -> str:
        """Return the row of the table."""
        difference, needed = self.left - self.right, QUANTILE * self.error
        told = "yes" if abs(difference) > needed else "no"
        cells = [self.where, self.claim, f"{100 * self.left:.1f}, {100 * self.right:.1f}"]
        cells += [f"{100 * difference:+.1f} ± {100 * self.error:.1f}", f"{100 * needed:.1f}", told]
        return "| " + " | ".join(cells) + " |"


PAIRS: Final = (
    Pair("Table 1", "Llama-3.2-1B, 64: filter above DVTS", 0.596, 0.528, MATH500),
    Pair("Table 1", "Llama-3.1-8B, 64: filter above DVTS", 0.744, 0.657, MATH500),
    Pair("Table 1", "Qwen2.5-Math-1.5B, 64: filter above DVTS", 0.854, 0.834, MATH500),
    Pair("Table 1", "Qwen2.5-Math-7B, 64: filter above DVTS", 0.870, 0.854, MATH500),
    Pair("Table 1", "Qwen2.5-Math-7B, 64: filter above weighted best of N", 0.870, 0.846, MATH500),
    Pair("Table 1", "AIME 2024, Llama-3.2-1B: filter above DVTS", 3 / 30, 2 / 30, AIME),
    Pair("Table 1", "AIME 2024, Qwen2.5-Math-7B: filter above DVTS", 7 / 30, 6 / 30, AIME),
    Pair("Table 1", "AIME 2024, Qwen2.5-Math-1.5B: filter above one answer", 7 / 30, 3 / 30, AIME),
    Pair("Fig. 2", "Llama-3.2-1B: 128 particles above 64", 0.600, 0.596, MATH500),
    Pair("Fig. 2", "Llama-3.2-1B: 64 particles above 16", 0.596, 0.534, MATH500),
    Pair("Fig. 2", "Qwen2.5-Math-1.5B, 16: filter below weighted best of N", 0.818, 0.834, MATH500),
    Pair("Fig. 2", "Llama-3.1-8B: filter with 8 above DVTS with 128", 0.688, 0.670, MATH500),
    Pair("Fig. 4", "64: Qwen2.5-Math-PRM-7B above RLHFlow", 0.58, 0.44, SUBSET),
    Pair("Fig. 4", "64: Qwen2.5-Math-PRM-7B above Math-Shepherd", 0.58, 0.39, SUBSET),
    Pair(
        "Fig. 4", "1: Qwen2.5-Math-PRM-7B above RLHFlow, where neither is asked", 0.40, 0.15, SUBSET
    ),
    Pair("Fig. 5", "64: `model` above the product", 0.57, 0.49, SUBSET),
    Pair("Fig. 5", "64: `model` above `min`", 0.57, 0.49, SUBSET),
    Pair("Fig. 5", "64: `model` below `last`", 0.57, 0.62, SUBSET),
    Pair("Fig. 6", "64: temperature .8 above 1.4", 0.57, 0.52, SUBSET),
    Pair("Fig. 6", "128: temperature .4 above .6", 0.64, 0.52, SUBSET),
    Pair("Fig. 7", "64: filter above particle Gibbs of 4", 0.57, 0.50, SUBSET),
    Pair("Fig. 7", "4: filter above particle Gibbs of 4, which is the same", 0.42, 0.33, SUBSET),
    Pair("Fig. 8", "128: islands of 16 above the filter", 0.48, 0.46, SUBSET),
)


def main() -> None:
    """Print the table in Markdown."""
    print("| where | claim | %, left and right | difference | needed | told from chance |")
    print("| --- | --- | --: | --: | --: | --- |")
    for pair in PAIRS:
        print(pair.row())
    told = sum(abs(pair.left - pair.right) > QUANTILE * pair.error for pair in PAIRS)
    print(f"\n{told} of {len(PAIRS)} are told from chance.")


if __name__ == "__main__":
    main()
