"""The clock by which a run counts its seconds.

It is that of the wall, but for runs that share their models with others: each of these has a clock
that stands still while the others run.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

CLOCK: Final[ContextVar[Callable[[], float]]] = ContextVar("clock", default=time.perf_counter)


def seconds() -> float:
    """Return the time of the clock, which counts from anywhere."""
    return CLOCK.get()()
