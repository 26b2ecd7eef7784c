"""Functions that take turns: one at a time, in a certain order, and none stays behind."""

import threading
import time

import pytest

from llmsmc.core.cost import clock
from llmsmc.models.batching.turns import Cancelled, Turn, ask, takes_turns


def test_a_function_goes_on_where_it_was_answered() -> None:
    def function() -> list[int]:
        assert takes_turns()
        return [ask("me", n) + 1 for n in range(3)]

    turn = Turn(function)
    turn.start()
    for n in range(3):
        assert turn.question is not None
        assert (turn.question.asked, turn.question.request) == ("me", n)
        turn.answer(10 * n)
    assert turn.question is None and turn.outcome() == [1, 11, 21]
    assert not takes_turns()


def test_only_one_of_them_runs_at_any_time() -> None:
    running, seen = [0], list[str]()

    def function(name: str) -> None:
        for _ in range(20):
            running[0] += 1
            assert running[0] == 1
            seen.append(name)
            running[0] -= 1
            ask(None, None)

    turns = [Turn(lambda name=name: function(name)) for name in "abc"]  # type: ignore[misc]
    for turn in turns:
        turn.start()
    while any(turn.question for turn in turns):
        for turn in turns:
            if turn.question:
                turn.answer(None)
    assert seen == list("abc") * 20


def test_errors_go_both_ways() -> None:
    def function() -> None:
        try:
            ask(None, None)
        except KeyError as error:
            raise ValueError("no") from error

    turn = Turn(function)
    turn.start()
    turn.answer(KeyError("nothing"))
    outcome = turn.outcome()
    assert isinstance(outcome, ValueError) and isinstance(outcome.__cause__, KeyError)


def test_those_who_are_cancelled_clean_up_and_end() -> None:
    before, left = threading.active_count(), list[str]()

    def function() -> None:
        try:
            try:
                ask(None, 1)
            except Exception:  # which a cancellation is not
                left.append("caught")
        finally:
            left.append("cleaned up")
            ask(None, 2)  # not answered any more

    turn, never = Turn(function), Turn(function)
    turn.start()
    turn.cancel()
    never.cancel()
    assert left == ["cleaned up"] and isinstance(turn.error, Cancelled)
    assert threading.active_count() == before


def test_the_clock_stands_still_while_others_run() -> None:
    def function() -> float:
        started = clock()
        time.sleep(0.02)
        ask(None, None)
        return clock() - started

    turn = Turn(function)
    turn.start()
    time.sleep(0.3)
    turn.answer(None, seconds=5.0)
    outcome = turn.outcome()
    assert isinstance(outcome, float) and 5.02 <= outcome < 5.2


def test_only_those_who_take_turns_can_ask() -> None:
    with pytest.raises(RuntimeError, match="takes turns"):
        ask(None, None)
