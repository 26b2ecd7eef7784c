"""Times of tasks that come line by line, without packages of the environment."""

import json
import sys
import time


def serve(tasks):
    """Do each task and print its times and its value.

    Args:
        tasks: by name, functions that prepare a task and return the work that is timed.
    """
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(timed(tasks[task.pop("task")](**task))), flush=True)


def timed(work):
    """Return the processor time and the wall-clock time of the work, and its value."""
    processor, wall = time.process_time(), time.perf_counter()
    value = work()
    return {
        "processor": time.process_time() - processor,
        "wall": time.perf_counter() - wall,
        "value": value,
    }
