"""Checkers of steps by name: the exact one of MiniMath, and functions of one's own."""

from collections.abc import Sequence
from functools import cache

from llmsmc.errors import InputError
from llmsmc.models.minimath import datasets
from llmsmc.models.minimath.checker import Verdict, check_steps
from llmsmc.models.minimath.problem import Problem
from llmsmc.registry import FORM, Registry, is_reference
from llmsmc.storage.characters import one_line
from llmsmc.training.verdicts import Checker

_CHECKERS = Registry("A checker of steps", "llmsmc.checkers")


def named_checker(name: str) -> Checker:
    """Return the checker of that name: `minimath`, or `package.module:function`.

    Raises:
        InputError: there is no such function.
    """
    if name == "minimath":
        return minimath
    if not is_reference(name):
        raise InputError(
            f"A checker is known by a name. Got {name!r}; accepted: minimath, or one of your own "
            f"as {FORM}."
        )
    found: Checker = _CHECKERS.find(name)
    if not callable(found):
        raise InputError(
            "A checker is a function of a question and the list of its steps. Got "
            f"{name!r}, which is no function; accepted: such a function as {FORM}."
        )
    return found


def minimath(question: str, steps: Sequence[str]) -> list[Verdict]:
    """Return the verdicts of the exact checker on the steps of a problem of a MiniMath set.

    Raises:
        InputError: the question is none of these sets.
    """
    problem = _problems().get(question)
    if problem is None:
        raise InputError(
            "The exact checker knows the problems of MiniMath. Got the question "
            f"{one_line(question, 80)!r}; accepted: those of {', '.join(datasets.NAMES)}."
        )
    return check_steps(problem, steps)


@cache
def _problems() -> dict[str, Problem]:
    return {problem.question: problem for name in datasets.NAMES for problem in datasets.load(name)}
