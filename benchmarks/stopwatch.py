"""Time of the processor by section, none of it counted twice."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any


class Stopwatch:
    """Charges time to the innermost section that is running.

    Attributes:
        seconds: of each section so far.
    """

    def __init__(self) -> None:
        """Begin with no section."""
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = time.process_time()

    def timed(self, section: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, whose time is charged to a section."""

        @wraps(function)
        def timing(*args: Any, **kwargs: Any) -> Any:
            self.enter(section)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return timing

    def enter(self, section: str) -> None:
        """Charge the time from now on to a section."""
        self._charge()
        self._running.append(section)

    def leave(self) -> None:
        """Charge the time from now on to the section before."""
        self._charge()
        self._running.pop()

    def _charge(self) -> None:
        now = time.process_time()
        if self._running:
            section = self._running[-1]
            self.seconds[section] = self.seconds.get(section, 0.0) + now - self._since
        self._since = now
