r"""Comparing an answer, which is read out of a text by `answer_extraction.py`, with a reference.

Model text is data here: it is matched by regular expressions and never evaluated. Comparisons that
need algebra are made by Math-Verify in processes apart (`grading_pool.py`), which are killed when
they take too long: no call takes more than `MAX_SECONDS` of processor time and the start of two
processes.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Literal

from llmsmc.grading.comparison import exact_value, is_right, same
from llmsmc.grading.extraction import boxed_answer, extract_answer
from llmsmc.grading.grammar import Node, Unreadable, read
from llmsmc.grading.pool import ERROR, POOL, TIMEOUT
from llmsmc.grading.text import bare, is_beyond_computing, normalized

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

_CALCULUS = re.compile(r"\\(?:i*int|sum|prod|lim)(?![a-zA-Z])|\\frac\s*\{d\}")


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

    Equal strings after normalisation are right. Else the structure of both is read, and compared
    piece by piece down to single expressions, which are equal if their values are
    (`grammar.py`, `comparison.py`, `values.py`). The sign of a whole number of
    percent may be left out. Math-Verify is asked for integrals, sums and limits alone.

    >>> grade("x", None), grade("5", "6"), grade(r"\text{no}", "on"), grade("52_7", "52_8")
    ('no answer', 'wrong', 'wrong', 'wrong')
    """
    if answer is None or reference is None or not answer.strip() or not reference.strip():
        return "no answer"
    if max(len(answer), len(reference)) > MAX_ANSWER_LENGTH:
        return "right" if answer.strip() == reference.strip() else "unreadable"
    spelt = normalized(answer), normalized(reference)
    if spelt[0] == spelt[1]:
        return "right"
    if not all(spelt):
        return "wrong"
    trees = _tree(answer), _tree(reference)
    if trees[0] is not None and trees[1] is not None:
        with suppress(Unreadable):
            return "right" if is_right(trees[0], trees[1]) else "wrong"
    if not (_CALCULUS.search(answer) or _CALCULUS.search(reference)):
        return "unreadable"
    if is_beyond_computing(answer) or is_beyond_computing(reference):
        return "unreadable"
    return _by_algebra(bare(answer), bare(reference))


def equivalence_classes(answers: Iterable[str]) -> dict[str, str]:
    """Return for each spelling of an answer the one that stands for all that say the same.

    The commonest spelling of a class stands for it, ties by alphabet. Commonest first, each
    spelling joins the first class of which it equals *every* member: what may be left out of an
    answer (a unit, a name, a letter of choice) thus never joins two answers that differ in it, and
    the classes do not depend on the order of the answers. No two spellings are compared twice.
    """
    counts = Counter(answers)
    classes: list[list[str]] = []  # of several members with an exact value, the first alone
    homes: dict[Node | str, list[str]] = {}  # by normal form
    found: dict[str, str] = {}
    for spelling in sorted(counts, key=lambda each: (-counts[each], each)):
        form = _tree(spelling) or spelling.strip()
        if form not in homes:
            fitting = (each for each in classes if all(_is_same(spelling, one) for one in each))
            home = next(fitting, None)
            if home is None:
                classes.append(home := [])
            if not (_digits(spelling) and any(map(_digits, home))):
                home.append(spelling)
            homes[form] = home
        found[spelling] = homes[form][0]
    return found


def _is_same(answer: str, other: str) -> bool:
    """Return whether two spellings say the same; 10% is 0.1, and not 10 as well."""
    values = _digits(answer), _digits(other)
    if all(values) and values[0] != values[1]:
        return False
    return _is_same_by_comparison(*sorted((answer, other)))


@functools.lru_cache(maxsize=2**16)
def _is_same_by_comparison(answer: str, other: str) -> bool:
    trees = _tree(answer), _tree(other)
    if trees[0] is not None and trees[1] is not None:
        with suppress(Unreadable):
            return normalized(answer) == normalized(other) or same(trees[0], trees[1])
    return equivalent(answer, other) and equivalent(other, answer)


@functools.lru_cache(maxsize=4096)
def _digits(answer: str) -> tuple[str, ...] | None:
    """Return the value of an answer that is one exact expression, None of all others."""
    tree = _tree(answer)
    return None if tree is None else exact_value(tree)


@functools.lru_cache(maxsize=4096)
def _tree(answer: str) -> Node | None:
    """Return the structure of an answer, None if it cannot be read."""
    if len(answer) > MAX_ANSWER_LENGTH:
        return None
    try:
        return read(answer)
    except Unreadable:
        return None


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
