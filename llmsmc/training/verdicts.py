"""What a checker says of the steps of a solution."""

from collections.abc import Callable, Sequence
from typing import Any

from llmsmc.core.counted import counted
from llmsmc.errors import InputError, LlmsmcError
from llmsmc.storage.characters import one_line

Checker = Callable[[str, Sequence[str]], Sequence[Any]]
"""From a question and the steps of a solution to a verdict on each: right or not, or None."""


def verdicts(checker: Checker, question: str, steps: Sequence[str]) -> list[float | None]:
    """Return the labels of steps by a checker: a step is right if all before it are, too.

    Raises:
        InputError: the checker fails, or returns something else than a verdict on each step.
    """
    try:
        found = list(checker(question, list(steps)))
    except LlmsmcError:
        raise
    except Exception as error:  # of whatever the function does
        raise _no_verdicts(f"{type(error).__name__}: {error}") from error
    if len(found) != len(steps):
        raise _no_verdicts(f"{counted(len(found), 'verdict')} on {counted(len(steps), 'step')}")
    labels, so_far = list[float | None](), 1.0
    for verdict in found:
        verdict = getattr(verdict, "correct", verdict)
        if verdict is not None:
            if not isinstance(verdict, bool | int | float) or not 0 <= verdict <= 1:
                raise _no_verdicts(repr(verdict))
            so_far = min(so_far, float(verdict))
        labels.append(None if verdict is None and so_far == 1 else so_far)
    return labels


def _no_verdicts(got: str) -> InputError:
    return InputError(
        "A checker takes a question and the list of its steps, and returns a verdict on each. Got "
        f"{one_line(got, 200)}; accepted: true, false, a number in [0, 1] or None for each step."
    )
