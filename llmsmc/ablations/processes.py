"""Units of work in several processes, whose results come back as they are made.

Only this process writes files. Each worker holds the reading end of a pipe to it: when this process
stops, or ends in whatever way, the pipe is closed and the workers end at once.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import Connection

from llmsmc.ablations.work import Unit, Worker
from llmsmc.errors import LlmsmcError
from llmsmc.evaluation.runner import Result

Finding = tuple[Unit, Result]

_workers: list[Worker] = []
"""The worker of a process of the pool."""


def run_units(units: Sequence[Unit], jobs: int, prepare: Callable[[], None]) -> Iterator[Finding]:
    """Yield the results of all units as they come, in whatever order.

    Args:
        units: the work, in the order in which it is begun.
        jobs: number of processes; a single one is this one.
        prepare: called at the beginning of each process.

    Raises:
        LlmsmcError: a process has ended before its work was done.
    """
    if jobs == 1 or len(units) <= 1:
        prepare()
        worker = Worker()
        for unit in units:
            for result in worker.results(unit):
                yield unit, result
        return
    parts = [part for unit in units for part in _parts(unit)]
    context = multiprocessing.get_context("spawn")
    theirs, mine = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(min(jobs, len(units)), context, _begin, (theirs, prepare))
    try:
        futures = {pool.submit(_results, part): part for part in parts}
        for future in as_completed(futures):
            for result in future.result():
                yield futures[future], result
    except BrokenProcessPool as error:
        raise LlmsmcError(
            "A process ended before its work was done; the memory may not be enough for so many "
            f"jobs. Got an end in the middle of {len(parts)} runs; accepted: fewer --jobs. The "
            "same command goes on from there."
        ) from error
    finally:
        mine.close()
        pool.shutdown(cancel_futures=True)


def _parts(unit: Unit) -> list[Unit]:
    """Return the tasks of a unit: single problems, or the whole block if several are in flight."""
    if unit.cell.in_flight > 1:
        return [unit]
    return [replace(unit, block=(each,)) for each in unit.block if each.id not in unit.done]


def _begin(parent: Connection, prepare: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's affair
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    prepare()
    _workers.append(Worker())


def _end_with(parent: Connection) -> None:
    parent.poll(None)  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)


def _results(unit: Unit) -> list[Result]:
    return list(_workers[0].results(unit))
