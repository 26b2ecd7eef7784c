"""Processes that work on untrusted input; slow processes are killed and replaced.

A process runs a script (`grading/worker.py`, `models/text/template_worker.py`) that answers each
line with one line and keeps its imports loaded. A request therefore starts no process, and a
request that hangs or exhausts the memory ends with its process. The pool is safe to use from any
thread and after a fork.
"""

import atexit
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

START_UP_SECONDS: Final = 120.0  # importing a computer algebra system on a busy machine
# Wall-clock seconds per second of CPU time; the only limit where CPU time has none (Windows).
MAX_WAITING: Final = 10.0 if sys.platform == "win32" else 300.0

TIMEOUT: Final = "timeout"
ERROR: Final = "error"


class WorkerPool:
    """Up to `size` processes, started when they are needed; each works on one request at a time.

    Attributes:
        num_started: how many processes have been started so far.
    """

    def __init__(self, script: Path, size: int) -> None:
        """Create the pool of a script; nothing is started yet. It ends with the interpreter."""
        self._script, self._size = script, size
        self.forget()
        atexit.register(self.stop)
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Drop all processes without touching them: after a fork they belong to the parent."""
        self._places = threading.BoundedSemaphore(self._size)
        self._idle: list[_Process] = []
        self.num_started = 0

    def ask(self, kind: str, seconds: float, *texts: str) -> str:
        """Return the answer of a process; `TIMEOUT` or `ERROR` if it did not come.

        Args:
            kind: of the request, as the script knows it.
            seconds: how long the answer may take, of processor time; where the system cannot limit
                that, and should the process be stuck, `MAX_WAITING` times as long by the clock.
            texts: what the request is about.
        """
        with self._places:
            process = self._ready()
            if process is None:
                return ERROR
            answer = ERROR
            try:
                answer = process.ask(kind, seconds, *texts)
            finally:
                if answer in (TIMEOUT, ERROR):
                    process.stop()
                else:
                    self._idle.append(process)
            return answer

    def start(self) -> None:
        """Start a process if there is none, and do not wait for it."""
        if not self.num_started:
            self._idle.append(self._new())

    def stop(self) -> None:
        """End all processes that are idle."""
        while (process := self._pop()) is not None:
            process.stop()

    def _ready(self) -> "_Process | None":
        """Return a process that is alive, None if none can be started."""
        while (process := self._pop()) is not None:
            if process.is_alive() and process.is_ready():
                return process
            process.stop()
        process = self._new()
        if process.is_ready():
            return process
        process.stop()
        return None

    def _new(self) -> "_Process":
        self.num_started += 1
        return _Process(self._script)

    def _pop(self) -> "_Process | None":
        with suppress(IndexError):
            return self._idle.pop()
        return None


class _Process:
    """One process and the thread that reads from it."""

    def __init__(self, script: Path) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._has_begun = False
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        threading.Thread(target=self._forward_lines, daemon=True).start()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def is_ready(self) -> bool:
        """Wait until the process can work; return whether it does."""
        self._has_begun = self._has_begun or self.next_line(START_UP_SECONDS) == "ready"
        return self._has_begun

    def ask(self, kind: str, seconds: float, *texts: str) -> str:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([kind, seconds, *texts]) + "\n")
            self._process.stdin.flush()
        except OSError:
            return ERROR
        return self.next_line(seconds * MAX_WAITING)

    def next_line(self, seconds: float) -> str:
        """Return the next line by the process, or why there is none."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return TIMEOUT
        if line:
            return line
        out_of_time = sys.platform != "win32" and self._process.wait() == -signal.SIGPROF
        return TIMEOUT if out_of_time else ERROR

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was not yet written cannot be written any more
                pipe.close()

    def _forward_lines(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):  # closed while reading: the process was replaced
            for line in self._process.stdout:
                self._lines.put(line.strip())
        self._lines.put("")
