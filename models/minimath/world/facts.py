"""The facts of a problem, as the checker looks them up."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Subject:
    """A subject of sentences, and the values that are true of it.

    Attributes:
        words: all of them appear in a clause that speaks of the subject, such as
            ``("Ann", "apples")`` or ``("term", "5")``.
        values: the true values; a number stated of the subject must be one of these.
    """

    words: tuple[str, ...]
    values: frozenset[int]


@dataclass(frozen=True)
class Facts:
    """The truth about one problem.

    Attributes:
        answer: the final answer.
        variables: the value of each letter, for equations that contain letters.
        subjects: named quantities.
        additive: whether the values of several subjects in one clause may be summed
            ("Ann and Ben have 23 apples together").
        divisors: label -> greatest common divisor of the pair of that label; empty in problems
            that are not about divisors. A pair left over under a label must still have it.
    """

    answer: int
    variables: dict[str, int] = field(default_factory=dict)
    subjects: tuple[Subject, ...] = ()
    additive: bool = False
    divisors: dict[str, int] = field(default_factory=dict)
