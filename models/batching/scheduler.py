"""Several runs at a time, which share the batches of their models.

Each run is an ordinary call, such as that of an algorithm's `run`. It goes on until it asks a
shared model for something (see `llmsmc.models.batching.shared`). When all runs are waiting, what
they have asked for is computed in one batch; rewards first, and then one token of each solution
that is being written. Whoever has an answer goes on at once, and may ask for the next step before
the next token. So a run never waits for the step of another, though solutions of one run wait for
each other. Rewards may also be computed beside the next tokens of other runs, in a thread of their
own: how many tokens these are is a number, and does not depend on how long anything takes.

What a run returns is what it returns alone, up to the rounding of a batch of another size. The same
runs with the same `in_flight` repeat bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from llmsmc.core.checks import require_count
from llmsmc.models.batching.turns import Turn

T = TypeVar("T")

Answer = tuple[int, object, float]
"""The key of a request, the answer to it or an exception, and the seconds that it took."""


class Batcher(Protocol):
    """Answers requests, many at a time.

    Attributes:
        is_prompt: whether it answers all that is asked at once, and is to do so before others.
        tokens_meanwhile: how many tokens others draw while it does so, in a thread of its own.
    """

    is_prompt: bool
    tokens_meanwhile: int

    @property
    def is_busy(self) -> bool:
        """Whether there are requests without an answer."""
        ...

    def admit(self, key: int, request: object) -> None:
        """Take a request."""
        ...

    def work(self) -> Callable[[], list[Answer]]:
        """Return what is to be done next for the requests up to now; done, it returns answers."""
        ...


def run_together(
    tasks: Iterable[Callable[[], T]], in_flight: int = 8
) -> Iterator[tuple[int, T | Exception]]:
    """Yield what each task returns, or the error that it raises, with its number, as they end.

    Args:
        tasks: functions that use shared models. They are taken one after the other, as earlier
            ones end; only one of them runs at any time.
        in_flight: how many are under way at a time.

    Raises:
        InputError: `in_flight` is no count.
        BaseException: what a task raises that is no `Exception`, such as `KeyboardInterrupt`; the
            other tasks are ended first, as they are when the caller asks for no more results.
    """
    require_count("in_flight", in_flight)
    return _results(enumerate(tasks), in_flight)


def _results(
    tasks: Iterator[tuple[int, Callable[[], T]]], in_flight: int
) -> Iterator[tuple[int, T | Exception]]:
    turns: dict[int, Turn[T]] = {}
    batchers: dict[object, Batcher] = {}

    def settle(key: int) -> Iterator[tuple[int, T | Exception]]:
        """Pass on what a task asks for, or what it has come to."""
        turn = turns[key]
        if turn.question is not None:
            asked = turn.question.asked
            if asked not in batchers:
                batchers[asked] = asked.batcher()
            batchers[asked].admit(key, turn.question.request)
            return
        del turns[key]
        if turn.error is not None and not isinstance(turn.error, Exception):
            raise turn.error
        yield key, turn.outcome()

    def pass_on(answers: Sequence[Answer]) -> Iterator[tuple[int, T | Exception]]:
        """Let tasks go on with what they have asked for."""
        for key, answer, seconds in answers:
            turns[key].answer(answer, seconds)
            yield from settle(key)

    beside = ThreadPoolExecutor(1)
    try:
        while True:
            while len(turns) < in_flight and (following := next(tasks, None)) is not None:
                key, task = following
                turns[key] = Turn(task)
                turns[key].start()
                yield from settle(key)
            if not turns:
                return
            busy = [batcher for batcher in batchers.values() if batcher.is_busy]
            batcher = next((each for each in busy if each.is_prompt), busy[0])
            answers = batcher.work()
            if batcher.tokens_meanwhile:
                answers = beside.submit(answers).result
            for _ in range(batcher.tokens_meanwhile):
                writing = [
                    each for each in batchers.values() if each.is_busy and not each.is_prompt
                ]
                if writing:
                    yield from pass_on(writing[0].work()())
            yield from pass_on(answers())
    finally:
        beside.shutdown()
        for turn in turns.values():
            turn.cancel()
