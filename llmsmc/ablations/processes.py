"""Units of work in several processes, whose results come back one by one.

Each process has one end of a pipe and nothing else of the others. It asks for a unit when it is
idle; when this process ends, however it ends, its pipe is closed and it ends as well. Only this
process writes files.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from llmsmc.ablations.work import Unit, Worker
from llmsmc.errors import LlmsmcError
from llmsmc.evaluation.runner import Result

Finding = tuple[Unit, Result]


def run_units(units: Sequence[Unit], jobs: int, prepare: Callable[[], None]) -> Iterator[Finding]:
    """Yield the results of all units as they come, in whatever order.

    Args:
        units: what there is to do, in the order in which it is begun.
        jobs: number of processes; a single one is this one.
        prepare: what each process begins with.

    Raises:
        LlmsmcError: a process has ended before its unit was done.
    """
    if jobs == 1 or len(units) <= 1:
        prepare()
        worker = Worker()
        for unit in units:
            for result in worker.results(unit):
                yield unit, result
        return
    yield from _side_by_side(units, min(jobs, len(units)), prepare)


def _side_by_side(
    units: Sequence[Unit], jobs: int, prepare: Callable[[], None]
) -> Iterator[Finding]:
    left, active = deque(units), dict[Any, Unit]()
    context = multiprocessing.get_context("spawn")
    processes = []
    try:
        for _ in range(jobs):
            mine, its = context.Pipe()
            process = context.Process(target=_serve, args=(its, prepare), daemon=True)
            process.start()
            its.close()
            processes.append((process, mine))
            _give(mine, left, active)
        while active:
            ready: list[Any] = wait(list(active))
            for connection in ready:
                unit = active[connection]
                try:
                    said = connection.recv()
                except (EOFError, ConnectionError) as error:
                    raise _lost(unit) from error
                if isinstance(said, Exception):
                    raise said
                if said is None:
                    del active[connection]
                    _give(connection, left, active)
                else:
                    yield unit, said
    finally:
        for _, connection in processes:
            connection.close()
        for process, _ in processes:
            process.join(0.2)  # an idle one ends by itself, and with it what it has started
            process.terminate()
            process.join()


def _give(connection: Any, left: deque[Unit], active: dict[Any, Unit]) -> None:
    """Send the next unit, if there is one."""
    if left:
        unit = left.popleft()
        active[connection] = unit
        connection.send(unit)


def _serve(connection: Connection, prepare: Callable[[], None]) -> None:
    """Run units and send back results, None behind the last of each; until the pipe is closed."""
    prepare()
    worker = Worker()
    try:
        while True:
            unit = connection.recv()
            try:
                for result in worker.results(unit):
                    connection.send(result)
            except LlmsmcError as error:  # a model that cannot be loaded, say
                connection.send(error)
            connection.send(None)
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return


def _lost(unit: Unit) -> LlmsmcError:
    return LlmsmcError(
        f"A process ended before its work was done. Got no result of {unit.cell.series!r}, seed "
        f"{unit.seed}, in the block from {unit.block[0].id} to {unit.block[-1].id}; the memory may "
        "not be enough for so many jobs. The same command goes on from there."
    )
