"""Processes that compare: limited in time and memory, replaced, shared between threads."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmsmc.core.worker_pool import WorkerPool
from llmsmc.grading.pool import ERROR, SCRIPT, TIMEOUT

pytest.importorskip("math_verify")

ENDLESS = ("9^{9^{9^{9}}}", "10000000!")
posix = pytest.mark.skipif(sys.platform == "win32", reason="no limits of processes")


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(SCRIPT, 1)
    yield pool
    pool.stop()


def seconds_of_the_dead() -> float:
    """Processor time of the processes that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def test_one_process_makes_many_comparisons(pool: WorkerPool) -> None:
    for n in range(2, 20):
        assert pool.ask("compare", 10.0, rf"\sqrt{{{n * n * 3}}}", rf"{n}\sqrt{{3}}") == "equal"
        assert pool.ask("compare", 10.0, rf"\sqrt{{{n}}}", rf"{n}\sqrt{{3}}") == "different"
    assert pool.ask("read", 10.0, r"\sqrt{2}") == "readable"
    assert pool.ask("read", 10.0, "}{") == "unreadable"
    assert pool.num_started == 1


@posix
def test_time_is_limited_on_the_processor_and_the_process_replaced(pool: WorkerPool) -> None:
    pool.ask("read", 10.0, "x")
    started = seconds_of_the_dead()
    pool.stop()
    cost_of_starting = seconds_of_the_dead() - started
    assert pool.ask("compare", 0.3, *ENDLESS) == TIMEOUT
    assert seconds_of_the_dead() - started < 2 * cost_of_starting + 0.3 + 0.5
    assert pool.ask("compare", 10.0, "x+1", "1+x") == "equal"
    assert pool.num_started == 3


def test_the_clock_is_the_second_limit(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.ask("read", 10.0, "x")
    monkeypatch.setattr("llmsmc.core.worker_pool.MAX_WAITING", 0.01)
    assert pool.ask("compare", 20.0, *ENDLESS) == TIMEOUT


def test_a_process_that_ends_is_an_error_and_replaced(pool: WorkerPool) -> None:
    assert pool.ask("no such request", 10.0, "x", "y", "z") == ERROR
    assert pool.ask("read", 10.0, "x") == "readable"
    assert pool.num_started == 2


def test_threads_share_the_processes() -> None:
    pool = WorkerPool(SCRIPT, 2)
    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(pool.ask, "compare", 10.0, f"x+{n}", f"{n}+x") for n in range(24)]
        assert {each.result() for each in asked} == {"equal"}
    assert pool.num_started <= 2
    pool.stop()


@posix
def test_memory_is_limited() -> None:
    folder = SCRIPT.parent
    code = "import worker as w; w.limit_memory(); bytearray(2 * w.MEMORY_BYTES)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1 and "MemoryError" in done.stderr
