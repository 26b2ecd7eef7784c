"""The cells of the comparison: what each of them is, and which of them are planned.

A cell is a piece of work with a folder or a file of its own in the folder of its world:

| name | what it is |
| --- | --- |
| samples, samples-larger | independent solutions, of the policy or the larger model |
| scores-REWARD | the scores of all steps of `samples` by a reward |
| greedy, greedy-larger | the most probable tokens, of the policy or the larger model |
| greedy-int8, greedy-nf4, greedy-fp4 | the same of the policy, quantized |
| bootstrap-N-REWARD, dvts-N-REWARD | a search with N particles |
| quantized-KIND, quantized-KIND-embedded | the law of a quantized policy beside the full one |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from llmsmc.errors import InputError

SEED: Final = 0
SIZES: Final = (1, 4, 8, 16)
NUM_SAMPLES: Final = 16
SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "system": "worked",
        "temperature": 0.7,
        "max_tokens": 300,
        "max_tokens_per_step": 300,
        "answer_forms": "boxed,last-number",
    }
)
"""The settings of all cells, besides the models."""

KINDS: Final = ("int8", "nf4", "fp4")


@dataclass(frozen=True)
class World:
    """A set of questions.

    Attributes:
        name: of its folder.
        title: what a reader calls it.
        count: how many of its questions are asked, the first ones.
        levels: of these levels alone; of all where there are none.
    """

    name: str
    title: str
    count: int
    levels: tuple[int, ...] = ()


WORLDS: Final = {
    "gsm8k": World("gsm8k", "GSM8K", 200),
    "math": World("math", "MATH-500, levels 1 and 2", 100, (1, 2)),
}


@dataclass(frozen=True)
class RewardKind:
    """A reward of the comparison.

    Attributes:
        label: what a reader calls it.
        aggregation: how the scores of steps make that of a solution.
        notation: how `llmsmc` calls it; None for a folder or a file that is named on the command
            line.
        weights: the weights that multiply each position that it reads, of networks of its own.
    """

    label: str
    aggregation: str
    notation: str | None = None
    weights: float = 0.0


SMALL: Final = 0.494e9
LARGE: Final = 1.544e9
"""Weights that multiply each position: layers and output embeddings of Qwen2.5 0.5B and 1.5B."""

REWARDS: Final = {
    "probe": RewardKind("probe", "last"),
    "adapter": RewardKind("adapter", "last", None, 0.358e9),
    "own-log-prob": RewardKind("own log-probability", "product", "own-log-prob"),
    "arithmetic": RewardKind("arithmetic", "product", "arithmetic"),
    "ratio": RewardKind("ratio of 1.5B to 0.5B", "last", None, LARGE),
    "judge": RewardKind("judge", "last", "judge", SMALL),
    "answer": RewardKind("right answer", "last", "answer"),
}
"""Name -> reward. The last one knows the answers: its figures are a ceiling."""


@dataclass(frozen=True)
class Cell:
    """A cell that answers the questions by an algorithm.

    Attributes:
        algorithm: its name.
        particles: their number.
        reward: a name in `REWARDS`; None where none is asked for.
        quantization: of the policy.
        is_larger: whether the larger model takes the place of the policy.
    """

    algorithm: str
    particles: int = 1
    reward: str | None = None
    quantization: str = "none"
    is_larger: bool = False

    @property
    def name(self) -> str:
        """The name of its folder."""
        parts = [self.algorithm]
        parts += [] if self.reward is None else [str(self.particles), self.reward]
        parts += [] if self.quantization == "none" else [self.quantization]
        return "-".join([*parts, *["larger"] * self.is_larger])


CELLS: Final = {
    cell.name: cell
    for cell in (
        Cell("greedy"),
        Cell("greedy", is_larger=True),
        *(Cell("greedy", quantization=kind) for kind in KINDS),
        *(
            Cell(algorithm, particles, reward)
            for algorithm in ("bootstrap", "dvts")
            for reward in REWARDS
            for particles in (4, 8, 16, 32)
        ),
    )
}
"""All cells that answer the questions by an algorithm, by name."""

SCORED: Final = tuple(name for name in REWARDS if name != "answer")
"""Rewards by which samples are scored; of the right answer, coverage says the same."""

LAWS: Final = tuple(f"quantized-{kind}{of}" for kind in KINDS for of in ("", "-embedded"))
"""The cells that compare the laws of quantized policies."""

OTHERS: Final = ("samples", "samples-larger", *(f"scores-{name}" for name in SCORED), *LAWS)

PLANNED: Final = {
    "gsm8k": (
        "greedy",
        "samples",
        *(f"scores-{name}" for name in SCORED),
        *(f"bootstrap-{n}-probe" for n in (4, 8, 16)),
        *(f"bootstrap-8-{name}" for name in ("adapter", "own-log-prob", "arithmetic", "answer")),
        "bootstrap-4-ratio",
        *(f"dvts-{n}-probe" for n in (4, 8, 16)),
        "greedy-larger",
        "samples-larger",
        *(f"greedy-{kind}" for kind in KINDS),
        *LAWS,
    ),
    "math": (
        "greedy",
        "samples",
        "scores-probe",
        "scores-own-log-prob",
        "bootstrap-8-probe",
        "dvts-8-probe",
        "bootstrap-8-answer",
    ),
}
"""World -> the cells that the page waits for, in the order in which they are run."""


def check_name(name: str) -> None:
    """Raise `InputError` if there is no such cell."""
    if name not in CELLS and name not in OTHERS:
        raise InputError(
            f"There is no such cell. Got {name!r}; accepted: {', '.join((*OTHERS, *CELLS))}."
        )
