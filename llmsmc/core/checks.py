"""Checks of settings: each says what is wrong, what was got and what is accepted."""

import math
from collections.abc import Collection

from llmsmc.errors import InputError


def require_count(name: str, value: object, minimum: int = 1) -> None:
    """Raise `InputError` unless `value` is an integer that is at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise InputError(f"{name} is a count. Got {value!r}; accepted: an integer >= {minimum}.")


def require_seconds(name: str, value: object, *, may_be_zero: bool = False) -> None:
    """Raise `InputError` unless `value` is a finite, positive number (or zero, if allowed)."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 < value < math.inf or (may_be_zero and value == 0)):  # type: ignore[operator]
        least = "0 <=" if may_be_zero else "0 <"
        raise InputError(
            f"{name} is a time in seconds. Got {value!r}; accepted: {least} {name} < infinity."
        )


def require_positive(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is a finite, positive number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:  # type: ignore[operator]
        raise InputError(
            f"{name} is a positive number. Got {value!r}; accepted: 0 < {name} < infinity."
        )


def require_fraction(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is a number in [0, 1]."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InputError(f"{name} is a fraction. Got {value!r}; accepted: 0 <= {name} <= 1.")


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise `InputError` unless `value` is one of the named `choices`."""
    if value not in choices:
        accepted = ", ".join(repr(choice) for choice in choices)
        raise InputError(f"{name} is one of a few words. Got {value!r}; accepted: {accepted}.")
