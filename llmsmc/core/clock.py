"""The clock by which a run counts its seconds.

By default this is wall-clock time. A run that shares models with other runs has a clock of its own,
which is paused while the others execute.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

CLOCK: Final[ContextVar[Callable[[], float]]] = ContextVar("clock", default=time.perf_counter)


def seconds() -> float:
    """Return the time of the clock in seconds; only differences have a meaning."""
    return CLOCK.get()()
