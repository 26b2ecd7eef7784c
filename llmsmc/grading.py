r"""Comparing an answer, which is read out of a text by `answer_extraction.py`, with a reference.

Model text is data here: it is matched by regular expressions and never evaluated. Comparisons that
need algebra are made by Math-Verify in processes apart (`grading_pool.py`), which are killed when
they take too long: no call takes more than `MAX_SECONDS` of processor time and the start of two
processes.
"""

import functools
from collections.abc import Iterable
from fractions import Fraction
from typing import Final, Literal

from llmsmc.answer_extraction import boxed_answer, extract_answer
from llmsmc.answer_text import bare, is_beyond_computing, normalized, numeral, plain_number, words
from llmsmc.grading_pool import ERROR, POOL, TIMEOUT

__all__ = [
    "Verdict",
    "boxed_answer",
    "equivalence_classes",
    "equivalent",
    "extract_answer",
    "grade",
]

MAX_ANSWER_LENGTH: Final = 256  # longer answers are compared as strings only
READING_SECONDS: Final = 1.0  # of processor time; the answers of MATH-500 take 0.2 at most
COMPARISON_SECONDS: Final = 2.0  # comparing these takes 0.12 at most
MAX_SECONDS: Final = 2 * READING_SECONDS + COMPARISON_SECONDS

Verdict = Literal["right", "wrong", "no answer", "unreadable", "timeout", "error"]
"""What is said of an answer; whatever is not "right" counts as wrong.

* "unreadable": the strings differ, and one of them is too long, has no expression in it, or has
  one with more digits than can be computed;
* "timeout": reading or comparing took too long;
* "error": the comparison failed, took too much memory, or Math-Verify is missing.
"""

NOT_COMPARED: Final = ("unreadable", "timeout", "error")
"""The verdicts that say nothing of the answer, only that it could not be compared."""


def equivalent(answer: str | None, reference: str | None) -> bool:
    r"""Whether `answer` says the same as `reference`.

    >>> equivalent("1,000", "1000"), equivalent(r"\frac{1}{2}", "0.5"), equivalent("10%", "0.1")
    (True, True, True)
    >>> equivalent("12", "13"), equivalent(None, "13")
    (False, False)
    """
    return grade(answer, reference) == "right"


def grade(answer: str | None, reference: str | None) -> Verdict:
    r"""Return what is to be said of an answer beside a reference.

    Tried in this order: equal strings after normalisation; answers in words, and numerals of a
    stated base, which are equal as strings or not at all; plain numbers, fractions and
    percentages, exactly; equal expressions by Math-Verify. As there, the sign of a whole number of
    percent may be left out.

    >>> grade("x", None), grade("5", "6"), grade(r"\text{no}", "on"), grade("52_7", "52_8")
    ('no answer', 'wrong', 'wrong', 'wrong')
    """
    if answer is None or reference is None or not answer.strip() or not reference.strip():
        return "no answer"
    if max(len(answer), len(reference)) > MAX_ANSWER_LENGTH:
        return "right" if answer.strip() == reference.strip() else "unreadable"
    same = _same_at_sight(answer, reference)
    if same is not None:
        return "right" if same else "wrong"
    if is_beyond_computing(answer) or is_beyond_computing(reference):
        return "unreadable"
    return _by_algebra(bare(answer), bare(reference))


def equivalence_classes(answers: Iterable[str]) -> dict[str, str]:
    """Return for each spelling of an answer the one that stands for all that say the same.

    The commonest spelling of a class stands for it, ties by alphabet, so that the classes do not
    depend on the order of the answers. Each spelling is compared with those that stand for a class
    so far, commonest first and in both directions, since Math-Verify is not symmetric.
    """
    given = list(answers)
    counts = {spelling: given.count(spelling) for spelling in set(given)}
    standing: dict[str | Fraction, str] = {}
    found: dict[str, str] = {}
    for spelling in sorted(counts, key=lambda each: (-counts[each], each)):
        key = _key(spelling)
        if key not in standing:
            standing[key] = next(
                (known for known in dict.fromkeys(standing.values()) if _same(spelling, known)),
                spelling,
            )
        found[spelling] = standing[key]
    return found


def _key(answer: str) -> str | Fraction:
    """Return what is the same for answers that are the same at sight."""
    if len(answer) > MAX_ANSWER_LENGTH:
        return answer.strip()
    text = _normalized(answer)
    number = _number(text)
    return text if number is None else number


def _same(answer: str, other: str) -> bool:
    if isinstance(_key(answer), Fraction) and isinstance(_key(other), Fraction):
        return False  # 10% is 0.1, and not 10 as well
    return equivalent(answer, other) or equivalent(other, answer)


_normalized = functools.lru_cache(maxsize=4096)(normalized)
_number = functools.lru_cache(maxsize=4096)(plain_number)


def _same_at_sight(answer: str, reference: str) -> bool | None:
    """Return whether two answers are the same, None where that needs algebra."""
    left, right = _normalized(answer), _normalized(reference)
    if left == right:
        return True
    if not left or not right:
        return False
    spoken = words(answer), words(reference)
    if any(spoken):
        pairs = zip(spoken, (left, right), strict=True)
        plain = [text or each.strip("()").casefold() for text, each in pairs]
        return plain[0] == plain[1]
    numerals = numeral(left), numeral(right)
    if all(numerals):
        return numerals[0] == numerals[1]
    numbers = _number(left), _number(right)
    if numbers[0] is None or numbers[1] is None:
        return None
    if left.rstrip("%") == right.rstrip("%"):
        return 1 in (numbers[0].denominator, numbers[1].denominator)  # 28% and 28
    return numbers[0] == numbers[1]


@functools.lru_cache(maxsize=4096)
def _by_algebra(answer: str, reference: str) -> Verdict:
    """Return what Math-Verify says; also where it fails, so that it is not asked twice."""
    readings = _reading(reference), _reading(answer)
    troubles: tuple[Verdict, ...] = ("timeout", "error", "unreadable")
    for trouble in troubles:
        if trouble in readings:
            return trouble
    word = POOL.ask("compare", COMPARISON_SECONDS, reference, answer)
    if word == "equal":
        return "right"
    if word == TIMEOUT:
        return "timeout"
    return "error" if word == ERROR else "wrong"


@functools.lru_cache(maxsize=4096)
def _reading(text: str) -> str:
    """Return whether a text can be read, so that one that cannot is paid for once."""
    return POOL.ask("read", READING_SECONDS, text)
