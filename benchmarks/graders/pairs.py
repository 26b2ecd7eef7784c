"""The table of pairs: an answer, a reference, and whether it is right.

The verdicts are those of a mathematician who grades a test by the rules of `docs/grading.md`;
what is a matter of taste is not in the table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

TABLE: Final = Path(__file__).parents[2] / "tests" / "grading_pairs.tsv"
HEADER: Final = ["kind", "verdict", "answer", "reference", "reason"]


@dataclass(frozen=True)
class Pair:
    """A line of the table.

    Attributes:
        kind: what sort of answers these are.
        is_right: whether the answer says the same as the reference.
        answer: as a model writes it.
        reference: the right answer of the problem.
        reason: of the verdict, where it is not obvious.
    """

    kind: str
    is_right: bool
    answer: str
    reference: str
    reason: str = ""


def read_pairs(table: Path = TABLE) -> list[Pair]:
    """Return the pairs in the order of the table.

    Raises:
        ValueError: a line is not of the form of the table.
    """
    head, *lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    if head != HEADER:
        raise ValueError(f"The columns are {head}: accepted are {HEADER}.")
    for fields in lines:
        if len(fields) not in (4, 5) or fields[1] not in ("right", "wrong"):
            raise ValueError(f"{fields}: a line is a kind, right or wrong, an answer, a reference.")
    return [Pair(kind, verdict == "right", *rest) for kind, verdict, *rest in lines]
