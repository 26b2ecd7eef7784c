"""Functions that take turns: each runs in a thread of its own, but only one of them at any time.

A function runs until it asks for something, and goes on when it is answered. So ordinary code can
be suspended in the middle of a call, and the order of everything is as certain as in a single
thread.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from threading import Semaphore, Thread
from typing import Any, Final, Generic, TypeVar

from llmsmc.core.cost import CLOCK

T = TypeVar("T")

_PATIENCE: Final = 0.01  # seconds between two looks at a thread that is to end

_CURRENT: ContextVar["Turn[Any] | None"] = ContextVar("current turn", default=None)


class Cancelled(BaseException):
    """Ends a function that will not be answered any more; not an error that it may catch."""


@dataclass(frozen=True, eq=False)
class Question:
    """What a function asks for.

    Attributes:
        asked: who answers.
        request: what for.
    """

    asked: Any
    request: Any


class Turn(Generic[T]):
    """A function that runs whenever it is its turn.

    Attributes:
        question: what it waits for; None once it has ended.
        result: what it has returned.
        error: what it has raised, if it did.
        seconds: how long it has run, together with what its answers are said to have taken.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        """Make a thread that waits for its first turn."""
        self.question: Question | None = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._function, self._answer = function, None
        self._failure: BaseException | None = None
        self._mine, self._yours = Semaphore(0), Semaphore(0)
        self._since = 0.0
        context = copy_context()
        self._thread = Thread(target=context.run, args=(self._run,), daemon=True)

    def outcome(self) -> T | Exception:
        """Return what it has returned, or the error that it has raised."""
        if isinstance(self.error, Exception):
            return self.error
        return self.result  # type: ignore[return-value]

    def start(self) -> None:
        """Let it run up to its first question, or its end."""
        self._since = time.perf_counter()
        self._thread.start()
        self._wait()

    def answer(self, value: Any, seconds: float = 0.0) -> None:
        """Let it go on with the answer, which took so long, up to its next question or its end.

        An answer that is an exception is raised where it was asked for.
        """
        self._answer, self._failure = value, value if isinstance(value, BaseException) else None
        self.seconds += seconds
        self._since, self.question = time.perf_counter(), None
        self._mine.release()
        self._wait()

    def cancel(self) -> None:
        """End it as soon as it asks for anything, and wait for its thread."""
        self._failure = Cancelled()
        while self._thread.is_alive():
            if self.question is not None:
                self.question = None
                self._mine.release()
            self._thread.join(_PATIENCE)

    def ask(self, question: Question) -> Any:
        """Give up the turn until there is an answer; called by the function."""
        if isinstance(self._failure, Cancelled):
            raise self._failure
        self._pass_on(question)
        self._mine.acquire()
        if self._failure is not None:
            raise self._failure
        return self._answer

    def now(self) -> float:
        """Return how long the function has run up to now."""
        return self.seconds + time.perf_counter() - self._since

    def _run(self) -> None:
        _CURRENT.set(self)
        CLOCK.set(self.now)
        try:
            self.result = self._function()
        except BaseException as error:
            self.error = error
        self._pass_on(None)

    def _pass_on(self, question: Question | None) -> None:
        self.seconds, self.question = self.now(), question
        self._yours.release()

    def _wait(self) -> None:
        self._yours.acquire()
        if self.question is None:
            self._thread.join()


def ask(asked: Any, request: Any) -> Any:
    """Ask for something as the function whose turn it is.

    Raises:
        RuntimeError: it is nobody's turn.
    """
    turn = _CURRENT.get()
    if turn is None:
        raise RuntimeError("Only a function that takes turns can ask.")
    return turn.ask(Question(asked, request))


def takes_turns() -> bool:
    """Return whether the caller is a function that takes turns."""
    return _CURRENT.get() is not None
